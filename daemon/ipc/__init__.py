"""How the processes speak to each other and to the system."""
