//! How a digest says that it failed, and what the daemon is asked to do about it.

use std::{fmt, time::Duration};

use devour_abi::{Failure, FailureKind};

use crate::context::Refused;

/// Why a message was not digested, and what to do about it.
///
/// - [`retry`](Self::retry): try again after the route's back-off. The partition (or key) waits, the others go on.
/// - [`reject`](Self::reject): trying again cannot help; the message takes the route's `then`.
/// - [`fatal`](Self::fatal): the plugin cannot go on; it is started anew and the message digested again.
///
/// Every [`std::error::Error`] becomes a `retry` through `?`, the kind that loses nothing (but for a
/// [`HostError`](crate::HostError) that says that a record is refused: a `reject`). Where that is not what an
/// error means, say so: [`OrDigestError::or_reject`].
///
/// ```
/// use devour::prelude::*;
///
/// fn total(text: &str) -> Result<u64, DigestError> {
///     let parts: Vec<u64> = text.split('+').map(|part| part.trim().parse()).collect::<Result<_, _>>().or_reject()?;
///     parts.iter().try_fold(0u64, |sum, part| sum.checked_add(*part)).ok_or_else(|| DigestError::reject("too large"))
/// }
/// assert_eq!(total("1 + 2").ok(), Some(3));
/// assert!(total("1 + x").is_err());
/// ```
#[derive(Clone)]
pub struct DigestError {
    // Boxed, so that the result of a digest is one word: it is returned for every message.
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: FailureKind,
    delay: Duration,
    message: String,
}

/// Says what any error means to the daemon, where `?` alone would say "retry".
pub trait OrDigestError<T> {
    /// On an error: try again after the route's back-off.
    ///
    /// # Errors
    /// The error, as a retry.
    fn or_retry(self) -> Result<T, DigestError>;
    /// On an error: do not try again.
    ///
    /// # Errors
    /// The error, as a reject.
    fn or_reject(self) -> Result<T, DigestError>;
    /// On an error: start the plugin anew.
    ///
    /// # Errors
    /// The error, as fatal.
    fn or_fatal(self) -> Result<T, DigestError>;
}

/// What a digest written for [`consumer`](crate::consumer) may return: nothing, or a `Result` whose error becomes a
/// [`DigestError`].
#[diagnostic::on_unimplemented(
    message = "a digest returns `()` or `Result<(), DigestError>`, not `{Self}`",
    label = "the digest returns this"
)]
pub trait IntoOutcome {
    /// As the one type that the shim knows.
    ///
    /// # Errors
    /// What the digest says.
    fn into_outcome(self) -> Result<(), DigestError>;
}

// === impl DigestError ===

impl DigestError {
    /// Try again, after the route's back-off.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(FailureKind::RETRY, message)
    }

    /// Try again, after `delay` (counted in milliseconds, at least one).
    pub fn retry_after(message: impl Into<String>, delay: Duration) -> Self {
        let mut error = Self::new(FailureKind::RETRY, message);
        error.inner.delay = delay.max(Duration::from_millis(1));
        error
    }

    /// Do not try again: the message takes the route's `then`.
    pub fn reject(message: impl Into<String>) -> Self {
        Self::new(FailureKind::REJECT, message)
    }

    /// The plugin cannot go on: start it anew.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::FATAL, message)
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What the daemon is asked to do.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.inner.kind
    }

    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                delay: Duration::ZERO,
                message: message.into(),
            }),
        }
    }

    pub(crate) fn into_failure(self) -> Failure {
        let mut failure = Failure::new(self.inner.kind, self.inner.message);
        failure.delay_ms = u64::try_from(self.inner.delay.as_millis()).unwrap_or(u64::MAX);
        failure
    }
}

impl fmt::Debug for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for DigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.kind.name(), self.inner.message)
    }
}

// `DigestError` is no `std::error::Error` itself: this conversion would then meet the one of every type into itself.
impl<E: std::error::Error> From<E> for DigestError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        // The host's word that no second try mends it: its own text says why.
        if source.is_some_and(|source| source.is::<Refused>()) {
            return Self::reject(message);
        }
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::retry(message)
    }
}

impl<T, E: fmt::Display> OrDigestError<T> for Result<T, E> {
    fn or_retry(self) -> Result<T, DigestError> {
        self.map_err(|error| DigestError::retry(error.to_string()))
    }

    fn or_reject(self) -> Result<T, DigestError> {
        self.map_err(|error| DigestError::reject(error.to_string()))
    }

    fn or_fatal(self) -> Result<T, DigestError> {
        self.map_err(|error| DigestError::fatal(error.to_string()))
    }
}

impl IntoOutcome for () {
    #[inline]
    fn into_outcome(self) -> Result<(), DigestError> {
        Ok(())
    }
}

impl<E: Into<DigestError>> IntoOutcome for Result<(), E> {
    #[inline]
    fn into_outcome(self) -> Result<(), DigestError> {
        self.map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<(), DigestError> {
        std::fs::read(path)?;
        Ok(())
    }

    #[test]
    fn any_error_becomes_a_retry_through_the_question_mark() {
        let error = read("/no/such/file").expect_err("there is no such file");
        assert_eq!(error.kind(), FailureKind::RETRY);
        assert!(error.message().contains("No such file"), "{error}");
    }

    #[test]
    fn a_record_that_is_refused_is_a_reject_and_one_that_failed_is_tried_again() {
        let error = |kind| crate::HostError::from(devour_abi::HostFailure::new(kind, "no"));
        for (kind, becomes) in [
            (devour_abi::HostErrorKind::REFUSED, FailureKind::REJECT),
            (devour_abi::HostErrorKind::FAILED, FailureKind::RETRY),
            (devour_abi::HostErrorKind::ABORTED, FailureKind::RETRY),
            (devour_abi::HostErrorKind::OTHER, FailureKind::RETRY),
        ] {
            let become_one = |error| -> Result<(), DigestError> { Err(error)? };
            let error = become_one(error(kind)).expect_err("it is one");
            assert_eq!((error.kind(), error.message()), (becomes, "no"));
        }
    }

    #[test]
    fn a_delay_of_nothing_is_still_a_delay_of_its_own() {
        assert_eq!(
            DigestError::retry_after("now", Duration::ZERO)
                .into_failure()
                .delay_ms,
            1
        );
        assert_eq!(DigestError::retry("later").into_failure().delay_ms, 0);
    }

    #[test]
    fn a_result_of_a_digest_is_one_word() {
        assert_eq!(size_of::<Result<(), DigestError>>(), size_of::<usize>());
    }
}
