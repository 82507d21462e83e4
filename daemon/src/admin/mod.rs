//! The control socket: how `devourd resume` and its like talk to a running daemon. A Unix stream socket; one line of
//! JSON asks ([`Request`]), one line of JSON answers ([`Answer`]). Who may connect is the file's mode, 0660.

mod client;
mod group;
mod path;
mod protocol;
mod server;
mod socket;
mod status;

pub use client::{AskError, ask};
pub use path::{DEFAULT, default_path};
pub use protocol::{Answer, Asked, Request};
pub use server::serve;
pub use socket::{ControlSocket, SocketError};
pub use status::{
    ByHandStatus, CountStatus, OutputStatus, ParkedStatus, PartitionStatus, RestartStatus, RouteStatus,
    Status, ThreadStatus, TransactionStatus,
};
