//! `devourd host`: what a plugin's process runs. Everything that bounds the process is set before any foreign code.

use std::{io, os::fd::AsFd, sync::Arc};

use super::{
    channel::{Hello, LANES, MAX_BESIDE},
    host_lane::{self, LaneParts, LanesShare},
    host_talk::Talk,
    plugin_process::{HELLO_BESIDE, HELLO_INLINE},
};
use crate::os::{
    SeqPacket,
    memory::read_bounded,
    process,
    socket::{MAX_FRAME, Received, Wait},
};

/// The exit status of a command that was used wrongly.
const USAGE: i32 = 2;
const INTERNAL: i32 = 70;

/// Runs a plugin for the daemon at the other end of descriptor 0. Returns the exit status.
#[must_use]
pub fn host_main() -> i32 {
    let talk = match process::take_socket_from_stdin() {
        Ok(Some(talk)) => talk,
        Ok(None) => {
            eprintln!(
                "devourd host runs one plugin for the daemon that started it, over a socket that it is given as its \
                 standard input. It is internal: to run routes, use `devourd` or `devourd consume NAME`."
            );
            return USAGE;
        }
        Err(error) => {
            eprintln!("devourd host: standard input: {error}");
            return INTERNAL;
        }
    };
    match run(talk) {
        // The daemon is gone or does not want this process any more. Foreign exit handlers are not asked.
        Ok(()) => process::exit_now(0),
        Err(error) => {
            eprintln!("devourd host: {error}");
            process::exit_now(INTERNAL);
        }
    }
}

fn run(socket: SeqPacket) -> io::Result<()> {
    let Some(parts) = hear_hello(&socket)? else {
        return Ok(());
    };
    let (hello, mut fds) = parts;
    if fds.len() != 4 {
        return Err(io::Error::other(format!(
            "the daemon sent {} descriptors instead of 4",
            fds.len()
        )));
    }
    let works = hear_lanes(&socket, hello.construct.lanes.max(1))?;
    match bound_process(&socket, &hello) {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        // Said, not died of: the daemon names it, and ends this process.
        Err(error) => host_lane::refuse(works, &error),
    }
    let talk = Arc::new(Talk::new(socket)?);
    let mut next = || fds.remove(0);
    let (arena, cells, cuts, library) = (next(), next(), next(), next());
    let shared = Arc::new(LanesShare {
        arena,
        cells,
        cuts,
        library,
        hello,
        talk: Arc::clone(&talk),
    });
    for (lane, work) in (0..).zip(works) {
        let shared = Arc::clone(&shared);
        let parts = LaneParts { lane, work, shared };
        std::thread::Builder::new()
            .name(format!("lane-{lane}"))
            .spawn(move || host_lane::run(parts))?;
    }
    talk.serve()
}

/// The work sockets, in the order of the lanes.
fn hear_lanes(socket: &SeqPacket, lanes: u32) -> io::Result<Vec<SeqPacket>> {
    let (mut works, mut fds, mut buffer) = (Vec::new(), Vec::new(), vec![0; 16]);
    while works.len() < lanes as usize {
        fds.clear();
        match socket.receive_with_fds(&mut buffer, &mut fds, Wait::Yes)? {
            Received::Frame(1) if buffer[0] == LANES && !fds.is_empty() => {}
            _ => return Err(io::Error::other("the daemon did not send a socket for each lane")),
        }
        for fd in fds.drain(..) {
            let work = SeqPacket::from_fd(fd);
            works.push(work.ok_or_else(|| io::Error::other("a work socket is something else"))?);
        }
    }
    Ok(works)
}

/// What this process is for, with the descriptors that belong to it. `None` if the daemon is gone.
fn hear_hello(socket: &SeqPacket) -> io::Result<Option<(Hello, Vec<std::os::fd::OwnedFd>)>> {
    let (mut buffer, mut fds) = (vec![0; MAX_FRAME], Vec::new());
    let frame = match socket.receive_with_fds(&mut buffer, &mut fds, Wait::Yes)? {
        Received::Frame(bytes) => &buffer[..bytes],
        _ => return Ok(None),
    };
    let hello = match frame.split_first() {
        Some((&HELLO_INLINE, json)) => serde_json::from_slice(json)?,
        Some((&HELLO_BESIDE, [])) => {
            let memory = fds
                .pop()
                .ok_or_else(|| io::Error::other("the first frame lacks its memory"))?;
            serde_json::from_slice(&read_bounded(memory.as_fd(), MAX_BESIDE)?)?
        }
        _ => return Err(io::Error::other("the daemon's first frame cannot be read")),
    };
    Ok(Some((hello, fds)))
}

/// Limits; user and groups; the parent's death; privileges and sandbox: in this order, because a change of the user
/// takes back what was said about the parent's death, and because none of it could be done in the sandbox. `false` if
/// the parent is gone already.
fn bound_process(socket: &SeqPacket, hello: &Hello) -> io::Result<bool> {
    let at = |what: &'static str| move |error: io::Error| io::Error::other(format!("{what}: {error}"));
    // Without it the daemon leaves with a lane what it was handed.
    let _ = crate::os::barrier::register();
    process::set_name(&format!("plugin:{}", hello.route));
    if !hello.core_dumps {
        process::no_core()?;
    }
    if let Some(soft) = hello.open_files {
        process::limit_open_files(soft)?;
    }
    // Only where there is a /proc; without it the kernel chooses for itself.
    let _ = process::take_me_first();
    process::ignore_stop_signals();
    hello.bounds.limit().map_err(at("its limits cannot be set"))?;
    hello
        .bounds
        .change_user()
        .map_err(at("its user cannot be changed"))?;
    if !process::die_with_parent(socket.maker()?)? {
        return Ok(false);
    }
    hello.bounds.lock_in().map_err(at("its sandbox cannot be made"))?;
    Ok(true)
}
