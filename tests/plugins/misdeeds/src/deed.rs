//! What it does.

use std::{
    fs,
    hint::black_box,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use devour::prelude::*;

use crate::{MisdeedSettings, asked, descriptors, fork, secrets};

/// A misdeed.
#[settings]
#[serde(rename_all = "kebab-case")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    None,
    /// Panics.
    Panic,
    /// SIGABRT.
    Abort,
    /// Reads where nothing is: SIGSEGV.
    Segfault,
    /// Calls itself until its stack is used up.
    Overflow,
    /// `exit(0)`.
    Exit,
    /// Never returns, asleep.
    Block,
    /// Never returns, but minds SIGTERM: writes a word to `with` and ends.
    BlockUntilAsked,
    /// Never returns, busy.
    Spin,
    /// Stops its whole process (SIGSTOP): nothing reads its sockets any more.
    Freeze,
    /// Takes memory until it gets none.
    Leak,
    /// Opens files until it gets none; `with` is where the number of them is written.
    OpenFiles,
    /// Closes every descriptor above 2.
    CloseDescriptors,
    /// Starts a thread that never ends.
    Thread,
    /// Forks a grandchild in a session of its own that keeps every descriptor and never ends; `with` is where its number
    /// is written.
    Fork,
    /// The same, without the environment that it was given.
    ForkWithoutEnvironment,
    /// Truncates, grows, writes and re-opens every memfd, and maps it to be written; `with` is where it writes down what
    /// it was allowed to.
    Memfds,
    /// Fills the page of its call cells with rubbish.
    Scribble,
    /// Sends rubbish over every socket.
    Rubbish,
    /// Sends a million frames of rubbish over the socket for talk.
    Frames,
    /// Logs as many lines as it can for three seconds.
    Log,
    /// Prints as many lines as it can for three seconds.
    Print,
    /// Overwrites its own file (`with`) in place.
    Overwrite,
    /// Looks for the words `with[1..]` in its environment, its descriptors and what /proc shows of its parent; `with[0]`
    /// is where what it found is written.
    Spy,
    /// Sends the line `with[1]` to the socket `with[0]` and writes the answer to `with[2]`.
    Command,
    /// Opens a socket, writes to the file `with[0]` and to the file `with[1]`, and writes down there what it could not.
    Trespass,
    /// Writes down its user, groups and capabilities at `with`.
    WhoAmI,
}

// === impl Deed ===

impl Deed {
    pub(crate) fn happen(self, settings: &MisdeedSettings) {
        let told = |text: String| {
            fs::write(settings.with(0), text).unwrap_or_else(|error| panic!("{}: {error}", settings.with(0)));
        };
        match self {
            Self::None => {}
            Self::Panic => panic!("a misdeed"),
            Self::Abort => std::process::abort(),
            Self::Segfault => {
                // SAFETY: there is nothing at that address, which is the point: the process dies of it.
                black_box(unsafe { std::ptr::read_volatile(black_box(16 as *const u64)) });
            }
            Self::Overflow => {
                black_box(overflow(0));
            }
            Self::Exit => std::process::exit(0),
            Self::Block => loop {
                std::thread::park();
            },
            Self::BlockUntilAsked => asked::block(settings.with(0)),
            Self::Spin => loop {
                std::hint::spin_loop();
            },
            Self::Freeze => {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
                // Another thread may be the first to take the signal; this one goes on until it has.
                loop {
                    std::thread::park();
                }
            }
            Self::Leak => leak(),
            Self::OpenFiles => told(open_files().to_string()),
            Self::CloseDescriptors => descriptors::close_all(),
            Self::Thread => drop(std::thread::spawn(|| {
                loop {
                    std::thread::sleep(Duration::from_millis(1));
                }
            })),
            Self::Fork => told(fork::grandchild(fork::Environment::Kept).to_string()),
            Self::ForkWithoutEnvironment => told(fork::grandchild(fork::Environment::Wiped).to_string()),
            Self::Memfds => told(descriptors::attack_memfds()),
            Self::Scribble => descriptors::scribble(),
            Self::Rubbish => descriptors::flood(1),
            Self::Frames => descriptors::flood(1_000_000),
            Self::Log => for_a_while(|line| info!(line, "one of a million")),
            Self::Print => for_a_while(|line| println!("line {line}, one of a million")),
            Self::Overwrite => {
                let rubbish = vec![0xAA; 64 * 1024];
                if let Err(error) = fs::write(settings.with(0), rubbish) {
                    panic!("{}: {error}", settings.with(0));
                }
            }
            Self::Spy => told(secrets::look_for(&settings.with[1..])),
            Self::Command => {
                let answer = command(settings.with(0), settings.with(1));
                let _ = fs::write(
                    settings.with(2),
                    answer.unwrap_or_else(|error| format!("refused: {error}")),
                );
            }
            Self::Trespass => {
                let outside = fs::write(settings.with(1), "trespassed");
                let socket = std::net::UdpSocket::bind("127.0.0.1:0");
                let mode = fs::metadata(settings.with(1)).map(|file| file.permissions());
                let mode = mode.and_then(|mode| fs::set_permissions(settings.with(1), mode));
                let words = |what, ok| format!("{what} {}\n", if ok { "done" } else { "refused" });
                told(
                    words("write", outside.is_ok())
                        + &words("mode", mode.is_ok())
                        + &words("socket", socket.is_ok()),
                );
            }
            Self::WhoAmI => {
                let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
                let home = std::env::var("HOME").unwrap_or_default();
                let nice = rustix::process::getpriority_process(None).unwrap_or(-100);
                told(format!("{status}Home:\t{home}\nNice:\t{nice}\n"));
            }
        }
    }
}

fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 512]);
    if depth == u64::MAX {
        0
    } else {
        overflow(depth + 1) + black_box(frame)[7]
    }
}

fn leak() {
    const STEP: usize = 4 << 20;
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        // Touched, so that it is memory and not only addresses.
        all.push(vec![1; STEP]);
        black_box(&all);
    }
}

fn open_files() -> usize {
    let mut all = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        all.push(file);
    }
    all.len()
}

fn for_a_while(mut act: impl FnMut(u64)) {
    let begin = Instant::now();
    for line in 0.. {
        act(line);
        if line % 1000 == 0 && begin.elapsed() > Duration::from_secs(3) {
            return;
        }
    }
}

fn command(socket: &str, line: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(socket)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(line.as_bytes())?;
    socket.write_all(b"\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
