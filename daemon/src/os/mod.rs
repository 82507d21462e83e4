//! What needs the kernel, or an instruction of the processor, as safe types: spawning and reaping, memory that two
//! processes share, sockets that pass descriptors, one epoll, a hint for the cache. Everything above (`lane/`, `plugin/`,
//! `worker/`) is safe code.

// Mapped memory, waitid, dup2 onto descriptor 0 and prefetching can only be had through raw pointers and raw numbers.
#![allow(unsafe_code)]

pub mod barrier;
pub mod bounds;
pub mod cache;
pub mod cgroup;
pub mod eventfd;
pub mod heap;
pub mod memory;
pub mod pipe;
pub mod poller;
pub mod privileges;
pub mod process;
mod reaper;
pub mod sandbox;
pub mod shared_page;
pub mod socket;
pub mod spawn;
pub mod timer;
pub mod users;

pub use bounds::Bounds;
pub use eventfd::EventFd;
pub use memory::{MemoryError, SharedBytes, SharedView};
pub use poller::{Interest, Poller, wait_readable};
pub use shared_page::SharedPage;
pub use socket::{Received, Sent, SeqPacket};
pub use spawn::{Child, Exit, Launch, Spawner};
pub use timer::Timer;
