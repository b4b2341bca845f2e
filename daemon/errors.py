"""Every error that Dropframe raises on purpose. A message says what is wrong and what to do next.

DropframeError
├── SettingsError             a setting is unknown, malformed, or contradicts another
├── StoreError                the job store could not do what was asked
│   ├── StoreLocked           another daemon uses the same home
│   ├── StoreDamaged          no readable copy of the job file is left
│   ├── StoreTooNew           the job file was written by a later version
│   ├── UnknownJob            no job has that id
│   └── IllegalMove           a job cannot go from its status to that one
├── StorageError              a stored file cannot be read, written or named
│   └── StoredFileMissing     nothing is stored under that key; a FileNotFoundError too
├── ObjectStoreError          object storage cannot be used just now; tried again without end
│   ├── ObjectRefused         the service refuses what was asked of this one object
│   ├── ObjectMissing         there is no such object
│   └── ObjectChanged         the object is another one by now
├── MachineError              the machine cannot run Dropframe as set: a folder, a device, a library
└── JobError                  a job ended without a result; ``kind`` says whether to try again
    ├── PermanentError        trying again would end the same way
    │   ├── BadVideo          the video cannot be opened, or is over a limit
    │   ├── BadOptions        an option or a pipeline id is wrong
    │   └── ModelError        weights are missing, damaged, or not weights
    ├── TransientError        trying again may help; counted, three attempts in all
    │   ├── PipelineDied      the pipeline process ended, or was ended for its memory
    │   └── PipelineStalled   no frame came for ``stall_seconds``
    ├── ResourceUnavailable   disk full, outbox away: tried again without counting
    │   └── NodeLost          the machine that did it is gone; another does it
    ├── SourceChanged         the video was written to while it was analysed
    ├── Cancelled             a person cancelled the job
    └── Interrupted           Dropframe is stopping; the job goes back to the queue
"""

from __future__ import annotations


class DropframeError(Exception):
    """The root of the family; its text is one sentence for a person."""


class SettingsError(DropframeError):
    """A setting is unknown, malformed, or contradicts another."""


class StoreError(DropframeError):
    """The job store could not do what was asked; nothing of the change is acknowledged."""


class StoreLocked(StoreError):
    """Another daemon uses the same home."""


class StoreDamaged(StoreError):
    """No readable copy of the job file is left."""


class StoreTooNew(StoreError):
    """The job file was written by a later version of Dropframe."""


class UnknownJob(StoreError):
    """No job has that id."""


class IllegalMove(StoreError):
    """A job cannot go from its status to the one asked for."""


class StorageError(DropframeError):
    """A stored file cannot be read, written or named."""


class StoredFileMissing(StorageError, FileNotFoundError):
    """Nothing is stored under that key."""


class ObjectStoreError(DropframeError):
    """Object storage cannot be used just now. The text never repeats what the service said, but for its error code."""


class ObjectRefused(ObjectStoreError):
    """The service refuses what was asked of this one object; others may do."""


class ObjectMissing(ObjectStoreError):
    """There is no such object."""


class ObjectChanged(ObjectStoreError):
    """Another object has that key by now."""


class MachineError(DropframeError):
    """The machine cannot run Dropframe as it is set up."""


class JobError(DropframeError):
    """A job ended without a result."""


class PermanentError(JobError):
    """Trying again would end the same way."""


class BadVideo(PermanentError):
    """The video cannot be opened or decoded, or is over a limit."""


class BadOptions(PermanentError):
    """An option has a wrong value, or the pipeline id is unknown."""


class ModelError(PermanentError):
    """Weights are missing, damaged, or not weights."""


class TransientError(JobError):
    """Trying again may help; every attempt is counted."""


class PipelineDied(TransientError):
    """The pipeline process ended in the middle of a job."""


class PipelineStalled(TransientError):
    """The pipeline process lives but no frame came for too long."""


class ResourceUnavailable(JobError):
    """A folder or disk does not let us work just now; tried again until it does, without counting."""


class NodeLost(ResourceUnavailable):
    """The machine of a cluster that did a piece of work is gone, or lacks what all share; another one does it."""


class SourceChanged(JobError):
    """The video was written to after it had been taken in."""


class Cancelled(JobError):
    """A person cancelled the job."""


class Interrupted(JobError):
    """Dropframe is stopping; the job goes back to the queue as it was."""
