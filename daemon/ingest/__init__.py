"""From a dropped file or a ticket to a job."""
