"""Every error Tunewright raises. Nothing here does I/O; every class is picklable.

TunewrightError
├── UsageError                    the user can mend it by changing what was typed or written
│   ├── RecipeError               the recipe is wrong: file, line, key, nearest known key
│   ├── SettingsError             the workspace or a setting is wrong
│   ├── UnknownReference          no such record, alias or row
│   ├── DuplicateName             a scorer or step is registered twice
│   └── RequestRefused            an HTTP request is wrong: field, limit, expected
├── DataError                     the input data cannot make a dataset version
│   ├── SourceUnreadable          a file is missing, empty, not decodable
│   ├── TooManyRejections         more rows rejected than the recipe allows
│   ├── EmptySplit                a split would have no rows
│   └── HeldOutLeak               a held-out row would reach training
├── BaseModelError                the base cannot be used
│   ├── BaseNotFound              no folder, nothing in the offline cache
│   ├── BaseIncomplete            weights, tokenizer or chat template missing
│   └── BaseChanged               files differ from the recorded manifest
├── TokenError                    the token plane refused a row
│   ├── TemplateMismatch          the chat template is not prefix-consistent
│   ├── NothingSupervised         no token of a row carries a label
│   └── EosNotSupervised          the end of the answer is never a label
├── TrainingError
│   ├── SelfCheckFailed           a job-start proof failed, by name
│   ├── TrainingDiverged          NaN or a loss spike at a step
│   ├── TrainingInterrupted       SIGTERM or Ctrl-C; resume is possible
│   └── WorkerFailed              the worker process died
├── EvaluationError
│   └── EngineFailed              the engine died, refused or timed out
├── RegistryError
│   ├── GateNotPassed             no passing verdict and no waiver
│   ├── AliasConflict             compare-and-swap lost
│   ├── ModelRevoked              the model was taken out of use
│   ├── BaseMismatch              an adapter for another base
│   ├── AdapterRefused            an adapter holds what is never loaded
│   └── IndistinguishableFromBase the adapter changes nothing
├── IntegrityError                stored bytes are not what the record says
│   ├── BlobMissing
│   ├── BlobCorrupt
│   ├── LedgerBroken              names the first broken link
│   └── SignatureInvalid
└── StorageError                  read-only, full, locked, or on a network file system
    ├── WorkspaceBusy
    └── SchemaTooNew
"""


class TunewrightError(Exception):
    """Base of all our errors. The message says what, which one, what was expected, and the next step."""


class UsageError(TunewrightError):
    """The user can mend it by changing what was typed or written."""


class RecipeError(UsageError):
    """The recipe is wrong."""


class SettingsError(UsageError):
    """The workspace or a setting is wrong."""


class UnknownReference(UsageError):
    """No such record, alias or row."""


class DuplicateName(UsageError):
    """A scorer or step is registered twice."""


class RequestRefused(UsageError):
    """An HTTP request is wrong; carries what the reply in the OpenAI error shape needs."""

    def __init__(
        self, message: str, status: int = 400, code: str = "invalid_request", param: str | None = None
    ) -> None:
        super().__init__(message, status, code, param)
        self.status = status
        self.code = code
        self.param = param

    def __str__(self) -> str:
        """Say only what is wrong."""
        return str(self.args[0])


class DataError(TunewrightError):
    """The input data cannot make a dataset version."""


class SourceUnreadable(DataError):
    """A source file is missing, empty or not decodable."""


class TooManyRejections(DataError):
    """More rows were rejected than the recipe allows."""


class EmptySplit(DataError):
    """A split would have no rows."""


class HeldOutLeak(DataError):
    """A held-out row would reach training."""


class BaseModelError(TunewrightError):
    """The base model cannot be used."""


class BaseNotFound(BaseModelError):
    """Neither a folder nor an entry of the offline cache."""


class BaseIncomplete(BaseModelError):
    """Weights, tokenizer or chat template are missing."""


class BaseChanged(BaseModelError):
    """The base's files differ from the recorded manifest."""


class TokenError(TunewrightError):
    """The token plane refused a row."""


class TemplateMismatch(TokenError):
    """The chat template does not extend its own prefix."""


class NothingSupervised(TokenError):
    """No token of a row carries a label."""


class EosNotSupervised(TokenError):
    """The end-of-sequence token is never a label."""


class TrainingError(TunewrightError):
    """Training could not finish."""


class SelfCheckFailed(TrainingError):
    """A proof at job start failed; the message names it."""


class TrainingDiverged(TrainingError):
    """NaN or a loss spike; the message names the step and the last good checkpoint."""


class TrainingInterrupted(TrainingError):
    """Stopped by SIGTERM or Ctrl-C after saving; the same command resumes."""


class WorkerFailed(TrainingError):
    """The worker process ended without a result."""


class EvaluationError(TunewrightError):
    """The gate could not be computed."""


class EngineFailed(EvaluationError):
    """The engine died, refused a request or timed out."""


class RegistryError(TunewrightError):
    """The registry refused."""


class GateNotPassed(RegistryError):
    """No passing verdict for exactly this adapter and held-out set, and no waiver."""


class AliasConflict(RegistryError):
    """Another process moved the alias first."""


class ModelRevoked(RegistryError):
    """The model was taken out of use, for a reason the ledger holds."""


class BaseMismatch(RegistryError):
    """The adapter was made for another base."""


class AdapterRefused(RegistryError):
    """An adapter holds what is never loaded: code, a pickle, NaN, an unknown kind of layer."""


class IndistinguishableFromBase(RegistryError):
    """The adapter answers every probe exactly as the base does."""


class IntegrityError(TunewrightError):
    """Stored bytes are not what the record says."""


class BlobMissing(IntegrityError):
    """A blob that a record names is not in the store."""


class BlobCorrupt(IntegrityError):
    """A blob's bytes do not hash to its name."""


class LedgerBroken(IntegrityError):
    """The hash chain breaks; the message names the first broken link."""


class SignatureInvalid(IntegrityError):
    """A signature is missing or does not verify."""


class StorageError(TunewrightError):
    """The disk or database refused: read-only, full, locked, or a network file system."""


class WorkspaceBusy(StorageError):
    """Another process holds the lock."""


class SchemaTooNew(StorageError):
    """The database was written by a newer Tunewright."""
