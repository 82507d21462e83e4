//! librdkafka's errors, each sorted into what a route does about it: go on, tell, or make the client again.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use rdkafka_sys as sys;

/// A number of librdkafka or of the Kafka protocol. Negative numbers are librdkafka's own. A broker may send a
/// number that this librdkafka does not know, so this is no enum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(i32);

/// What a client does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// librdkafka retries by itself: logged (once while it lasts), nothing else.
    GoOn,
    /// Someone has to do something (a right, a topic, a certificate): shown with the route, the client lives on.
    Tell,
    /// This client is finished; only a new one helps.
    Recreate,
}

/// What to do about the answer to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitAdvice {
    /// The broker has it (or there was nothing to write).
    Done,
    /// The same offsets may be sent again, after a back-off.
    Retry,
    /// The partition is no longer ours: forget it.
    Drop,
    /// Refused for good (rights, size of the metadata): tell.
    Tell,
}

/// Something that a client reports and that belongs to no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientEvent {
    pub class: ErrorClass,
    pub code: ErrorCode,
    /// librdkafka's own words.
    pub text: String,
    pub topic: Option<Arc<str>>,
    pub partition: Option<i32>,
}

/// Why a call on a client failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("librdkafka refuses the property `{key}`: {reason}")]
    Property { key: String, reason: String },
    #[error("librdkafka cannot make a client: {0}")]
    Create(String),
    #[error("{what} failed: {text} ({code})")]
    Call {
        what: &'static str,
        code: ErrorCode,
        text: String,
    },
    #[error("the Kafka client is finished and has to be made again: {text} ({code})")]
    Fatal { code: ErrorCode, text: String },
    #[error("{what} is not possible inside a rebalance handler")]
    InRebalance { what: &'static str },
    #[error("the topic name {0:?} holds a NUL byte")]
    Name(String),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        #[source]
        source: Errno,
    },
}

/// An error number of the operating system, comparable and cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

// === impl ErrorCode ===

impl ErrorCode {
    pub const NONE: Self = Self(0);
    pub const DESTROY: Self = Self(-197);
    pub const FAIL: Self = Self(-196);
    pub const TRANSPORT: Self = Self(-195);
    pub const RESOLVE: Self = Self(-193);
    pub const MSG_TIMED_OUT: Self = Self(-192);
    pub const PARTITION_EOF: Self = Self(-191);
    pub const UNKNOWN_PARTITION: Self = Self(-190);
    pub const UNKNOWN_TOPIC: Self = Self(-188);
    pub const ALL_BROKERS_DOWN: Self = Self(-187);
    pub const INVALID_ARG: Self = Self(-186);
    pub const TIMED_OUT: Self = Self(-185);
    pub const QUEUE_FULL: Self = Self(-184);
    pub const SSL: Self = Self(-181);
    pub const WAIT_COORD: Self = Self(-180);
    pub const UNKNOWN_GROUP: Self = Self(-179);
    pub const IN_PROGRESS: Self = Self(-178);
    pub const ASSIGN_PARTITIONS: Self = Self(-175);
    pub const REVOKE_PARTITIONS: Self = Self(-174);
    pub const STATE: Self = Self(-172);
    pub const AUTHENTICATION: Self = Self(-169);
    pub const NO_OFFSET: Self = Self(-168);
    pub const TIMED_OUT_QUEUE: Self = Self(-166);
    pub const PURGE_QUEUE: Self = Self(-152);
    pub const PURGE_INFLIGHT: Self = Self(-151);
    pub const FATAL: Self = Self(-150);
    pub const MAX_POLL_EXCEEDED: Self = Self(-147);
    pub const FENCED: Self = Self(-144);
    pub const ASSIGNMENT_LOST: Self = Self(-142);
    pub const AUTO_OFFSET_RESET: Self = Self(-140);
    pub const UNKNOWN_TOPIC_OR_PART: Self = Self(3);
    pub const REQUEST_TIMED_OUT: Self = Self(7);
    pub const MSG_SIZE_TOO_LARGE: Self = Self(10);
    pub const OFFSET_METADATA_TOO_LARGE: Self = Self(12);
    pub const INVALID_TOPIC: Self = Self(17);
    pub const NETWORK_EXCEPTION: Self = Self(13);
    pub const COORDINATOR_LOAD_IN_PROGRESS: Self = Self(14);
    pub const COORDINATOR_NOT_AVAILABLE: Self = Self(15);
    pub const NOT_COORDINATOR: Self = Self(16);
    pub const RECORD_LIST_TOO_LARGE: Self = Self(18);
    pub const ILLEGAL_GENERATION: Self = Self(22);
    pub const INCONSISTENT_GROUP_PROTOCOL: Self = Self(23);
    pub const UNKNOWN_MEMBER_ID: Self = Self(25);
    pub const REBALANCE_IN_PROGRESS: Self = Self(27);
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    pub const GROUP_AUTHORIZATION_FAILED: Self = Self(30);
    pub const CLUSTER_AUTHORIZATION_FAILED: Self = Self(31);
    pub const INVALID_TIMESTAMP: Self = Self(32);
    pub const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub const INVALID_TXN_STATE: Self = Self(48);
    pub const INVALID_PRODUCER_ID_MAPPING: Self = Self(49);
    pub const UNKNOWN_PRODUCER_ID: Self = Self(59);
    pub const PRODUCER_FENCED: Self = Self(90);
    pub const FENCED_INSTANCE_ID: Self = Self(82);
    pub const INVALID_RECORD: Self = Self(87);
    pub const FENCED_MEMBER_EPOCH: Self = Self(110);
    pub const UNRELEASED_INSTANCE_ID: Self = Self(111);
    /// A topic is another one than before: it was deleted and made again.
    pub const UNKNOWN_TOPIC_ID: Self = Self(100);
    pub const STALE_MEMBER_EPOCH: Self = Self(113);

    /// Any number, as librdkafka or a broker gave it.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// No broker was heard, whatever was asked.
    pub const fn is_silence(self) -> bool {
        matches!(
            self,
            Self::TRANSPORT | Self::RESOLVE | Self::ALL_BROKERS_DOWN | Self::TIMED_OUT | Self::MSG_TIMED_OUT
        )
    }

    /// The number itself.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// Nothing went wrong.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// librdkafka's name, such as `_TRANSPORT` (its own) or `UNKNOWN_MEMBER_ID` (the protocol's).
    pub fn name(self) -> String {
        match sys::rd_kafka_resp_err_t::try_from(self.0) {
            // SAFETY: a table look-up that takes any value of its enum and returns a static, terminated string.
            Ok(code) => unsafe { text_of(sys::rd_kafka_err2name(code)) },
            Err(_) => format!("ERROR_{}", self.0),
        }
    }

    /// librdkafka's description.
    pub fn text(self) -> String {
        match sys::rd_kafka_resp_err_t::try_from(self.0) {
            // SAFETY: as in `name`.
            Ok(code) => unsafe { text_of(sys::rd_kafka_err2str(code)) },
            Err(_) => format!(
                "error {} of the broker, which this librdkafka does not know",
                self.0
            ),
        }
    }

    /// It concerns a whole topic.
    pub(super) const fn is_of_topic(self) -> bool {
        matches!(
            self,
            Self::UNKNOWN_TOPIC_OR_PART | Self::UNKNOWN_TOPIC | Self::TOPIC_AUTHORIZATION_FAILED
        )
    }

    /// What a client does about it.
    pub fn class(self) -> ErrorClass {
        match self {
            Self::FATAL
            | Self::FENCED_INSTANCE_ID
            | Self::UNRELEASED_INSTANCE_ID
            | Self::FENCED_MEMBER_EPOCH
            | Self::DESTROY => ErrorClass::Recreate,
            Self::NONE
            | Self::ALL_BROKERS_DOWN
            | Self::TRANSPORT
            | Self::RESOLVE
            | Self::TIMED_OUT
            | Self::TIMED_OUT_QUEUE
            | Self::MSG_TIMED_OUT
            | Self::QUEUE_FULL
            | Self::WAIT_COORD
            | Self::IN_PROGRESS
            | Self::PARTITION_EOF
            | Self::STATE
            | Self::ASSIGNMENT_LOST
            | Self::REQUEST_TIMED_OUT
            | Self::NETWORK_EXCEPTION
            | Self::COORDINATOR_LOAD_IN_PROGRESS
            | Self::COORDINATOR_NOT_AVAILABLE
            | Self::NOT_COORDINATOR
            | Self::ILLEGAL_GENERATION
            | Self::UNKNOWN_MEMBER_ID
            | Self::REBALANCE_IN_PROGRESS
            | Self::STALE_MEMBER_EPOCH => ErrorClass::GoOn,
            // Everything else is something that a person may have to mend; silence would hide it.
            _ => ErrorClass::Tell,
        }
    }

    /// What to do about it as the answer to a commit.
    pub fn commit_advice(self) -> CommitAdvice {
        match self {
            Self::NONE | Self::NO_OFFSET => CommitAdvice::Done,
            Self::REQUEST_TIMED_OUT
            | Self::NETWORK_EXCEPTION
            | Self::COORDINATOR_LOAD_IN_PROGRESS
            | Self::COORDINATOR_NOT_AVAILABLE
            | Self::NOT_COORDINATOR
            | Self::WAIT_COORD
            | Self::TRANSPORT
            | Self::ALL_BROKERS_DOWN
            | Self::TIMED_OUT
            | Self::TIMED_OUT_QUEUE
            | Self::IN_PROGRESS
            // The member is still in the group under the cooperative protocol: the next commit may pass.
            | Self::REBALANCE_IN_PROGRESS => CommitAdvice::Retry,
            Self::ILLEGAL_GENERATION
            | Self::UNKNOWN_MEMBER_ID
            | Self::STALE_MEMBER_EPOCH
            | Self::FENCED_INSTANCE_ID
            | Self::FENCED_MEMBER_EPOCH
            | Self::ASSIGNMENT_LOST
            | Self::STATE
            | Self::DESTROY
            | Self::UNKNOWN_GROUP => CommitAdvice::Drop,
            _ => CommitAdvice::Tell,
        }
    }
}

impl From<sys::rd_kafka_resp_err_t> for ErrorCode {
    fn from(code: sys::rd_kafka_resp_err_t) -> Self {
        Self(code as i32)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

// === impl ClientError ===

impl ClientError {
    /// An error code as the failure of `what`.
    pub(super) fn call(what: &'static str, code: ErrorCode) -> Self {
        Self::Call {
            what,
            code,
            text: code.text(),
        }
    }

    /// The code behind it, where there is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Call { code, .. } | Self::Fatal { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Only a new client helps.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal { .. }) || self.code().is_some_and(|c| c.class() == ErrorClass::Recreate)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

/// A C string as text; empty for a null pointer.
///
/// # Safety
/// `text` is null or points to a terminated string that lives during the call.
pub(super) unsafe fn text_of(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_librdkafkas_and_an_unknown_number_is_no_crash() {
        assert_eq!(ErrorCode::TRANSPORT.name(), "_TRANSPORT");
        assert_eq!(ErrorCode::UNKNOWN_MEMBER_ID.name(), "UNKNOWN_MEMBER_ID");
        assert_eq!(ErrorCode::MAX_POLL_EXCEEDED.name(), "_MAX_POLL_EXCEEDED");
        assert_eq!(ErrorCode::ASSIGNMENT_LOST.name(), "_ASSIGNMENT_LOST");
        assert_eq!(ErrorCode::AUTO_OFFSET_RESET.name(), "_AUTO_OFFSET_RESET");
        assert_eq!(ErrorCode::STALE_MEMBER_EPOCH.name(), "STALE_MEMBER_EPOCH");
        assert_eq!(ErrorCode::UNRELEASED_INSTANCE_ID.name(), "UNRELEASED_INSTANCE_ID");
        assert_eq!(ErrorCode::FENCED_MEMBER_EPOCH.name(), "FENCED_MEMBER_EPOCH");
        assert_eq!(ErrorCode::FENCED_INSTANCE_ID.name(), "FENCED_INSTANCE_ID");
        assert_eq!(ErrorCode::new(9999).name(), "ERROR_9999");
        assert!(ErrorCode::new(9999).text().contains("9999"));
    }

    #[test]
    fn every_error_has_its_class() {
        for (code, class) in [
            (ErrorCode::ALL_BROKERS_DOWN, ErrorClass::GoOn),
            (ErrorCode::TRANSPORT, ErrorClass::GoOn),
            (ErrorCode::RESOLVE, ErrorClass::GoOn),
            (ErrorCode::TIMED_OUT, ErrorClass::GoOn),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorClass::Tell),
            (ErrorCode::UNKNOWN_TOPIC_OR_PART, ErrorClass::Tell),
            (ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorClass::Tell),
            (ErrorCode::SSL, ErrorClass::Tell),
            (ErrorCode::AUTHENTICATION, ErrorClass::Tell),
            (ErrorCode::AUTO_OFFSET_RESET, ErrorClass::Tell),
            (ErrorCode::MAX_POLL_EXCEEDED, ErrorClass::Tell),
            (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, ErrorClass::Tell),
            (ErrorCode::new(9999), ErrorClass::Tell),
            (ErrorCode::FATAL, ErrorClass::Recreate),
            (ErrorCode::FENCED_INSTANCE_ID, ErrorClass::Recreate),
        ] {
            assert_eq!(code.class(), class, "{code:?}");
        }
    }

    #[test]
    fn a_commit_answer_says_what_to_do() {
        assert_eq!(ErrorCode::NO_OFFSET.commit_advice(), CommitAdvice::Done);
        assert_eq!(ErrorCode::WAIT_COORD.commit_advice(), CommitAdvice::Retry);
        assert_eq!(ErrorCode::ILLEGAL_GENERATION.commit_advice(), CommitAdvice::Drop);
        assert_eq!(
            ErrorCode::OFFSET_METADATA_TOO_LARGE.commit_advice(),
            CommitAdvice::Tell
        );
    }
}
