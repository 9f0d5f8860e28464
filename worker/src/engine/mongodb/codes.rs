//! The numbers of the server's errors that decide what happens next (MongoDB, `error_codes.yml`).

/// Nothing is lost by asking again: the server is going away, or is not the primary any more.
pub(super) const SERVER_CHANGING: [i32; 14] =
    [6, 7, 64, 89, 91, 134, 189, 262, 9001, 10058, 10107, 11600, 11602, 13436];
/// Not the primary, or not writable.
pub(super) const NOT_WRITABLE: [i32; 3] = [10058, 10107, 13435];
/// MaxTimeMSExpired, TransactionTooLarge, NoSuchTransaction, TransactionExceededLifetimeLimitSeconds,
/// TransactionTooLargeForCache.
pub(super) const TOO_SLOW: [i32; 5] = [50, 251, 257, 290, 388];
/// LockTimeout, WriteConflict, TransactionTooOld, SnapshotTooOld, SnapshotUnavailable, Interrupted.
pub(super) const CONTENDED: [i32; 6] = [24, 112, 225, 239, 246, 11601];
/// ExceededMemoryLimit, OutOfDiskSpace.
pub(super) const OUT_OF_RESOURCES: [i32; 2] = [146, 14031];
/// Unauthorized, AuthenticationFailed.
pub(super) const NOT_ALLOWED: [i32; 2] = [13, 18];
/// MaxTimeMSExpired.
pub(super) const MAX_TIME: i32 = 50;
/// NamespaceNotFound.
pub(super) const NO_NAMESPACE: i32 = 26;
/// NamespaceExists.
pub(super) const NAMESPACE_EXISTS: i32 = 48;
/// DuplicateKey.
pub(super) const DUPLICATE_KEY: i32 = 11000;
