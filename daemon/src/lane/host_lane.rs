//! A lane's thread in the plugin's process: opens the library, makes the instance, digests what the work socket brings.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use abi_stable::std_types::{ROption, RSlice};
use devour_abi::{
    Call, CallCell, CallHost, ConstructRequest, CutNumber, Failure, FailureKind, Host, Instance,
    LifecycleCall, MessageView,
};

use super::{
    channel::{CallFrame, FromLane, Hello, MAX_BESIDE, MAX_INLINE, PlaceKind, ToLane},
    current::{AtStep, Current},
    host_call::{LaneCall, Lies, Outcomes, Place, StoredCall},
    host_talk::{Services, Talk},
    plugin_process::beside_frame,
    views::{self, Names},
};
use crate::os::{
    SeqPacket, SharedPage, SharedView,
    memory::read_bounded,
    process,
    shared_page::Writer,
    socket::{MAX_FRAME, Received, Wait},
};

/// What a lane is made of; the memory is mapped by its own thread.
pub(super) struct LaneParts {
    pub lane: u32,
    pub work: SeqPacket,
    pub shared: Arc<LanesShare>,
}

/// What all lanes of a process have.
pub(super) struct LanesShare {
    pub arena: OwnedFd,
    pub cells: OwnedFd,
    pub cuts: OwnedFd,
    pub library: OwnedFd,
    pub hello: Hello,
    pub talk: Arc<Talk>,
}

struct Lane {
    work: Arc<SeqPacket>,
    outcomes: Arc<Outcomes>,
    lane: usize,
    reads_headers: bool,
    hold_on_reject: bool,
    takes: bool,
    arena: Arc<SharedView>,
    cells: Rc<SharedPage>,
    cuts: SharedPage,
    names: Names,
    released: Vec<u64>,
    held: Vec<u64>,
    views: Vec<MessageView<'static>>,
    /// Messages of the call that lies in one piece.
    count: u32,
    /// `None` once it was stopped.
    instance: Option<Instance>,
    talk: Arc<Talk>,
}

/// What goes on after a frame.
enum Next {
    Frame,
    /// The instance is broken: it must not be called again, and the daemon ends the process.
    Nothing,
}

/// The exit status when the daemon said what cannot be understood.
const BROKEN_HOST: i32 = 70;

/// Ends the process when the thread ends, however it does.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        process::exit_now(BROKEN_HOST);
    }
}

/// The body of the lane's thread. Does not return while the process lives.
pub(super) fn run(parts: LaneParts) {
    let _end = EndsTheProcess;
    let lane = match Lane::build(parts) {
        Ok(Some(lane)) => lane,
        // The daemon knows why, and ends the process.
        Ok(None) => wait_for_the_end(),
        Err(error) => {
            eprintln!("devourd host: {error}");
            return;
        }
    };
    match lane.digest_all() {
        Ok(()) => wait_for_the_end(),
        Err(error) => eprintln!("devourd host: {error}"),
    }
}

/// Says that no instance will stand, and waits to be ended.
pub(super) fn refuse(works: Vec<SeqPacket>, why: &io::Error) -> ! {
    for work in works {
        Outcomes::new(Arc::new(work)).say(&FromLane::NotBuilt(&why.to_string()));
    }
    wait_for_the_end()
}

fn wait_for_the_end() -> ! {
    loop {
        std::thread::park();
    }
}

// === impl Lane ===

impl Lane {
    /// Maps, opens, constructs, and says how that went. `None` if there is no instance.
    fn build(parts: LaneParts) -> io::Result<Option<Self>> {
        let LaneParts { lane, work, shared } = parts;
        let (hello, talk) = (&shared.hello, Arc::clone(&shared.talk));
        let arena = SharedView::map(shared.arena.as_fd(), hello.arena_bytes).map_err(io::Error::other)?;
        let cells = SharedPage::map(shared.cells.as_fd(), Writer::Receiver).map_err(io::Error::other)?;
        let cuts = SharedPage::map(shared.cuts.as_fd(), Writer::Maker).map_err(io::Error::other)?;
        let unsent = SharedPage::map(shared.cells.as_fd(), Writer::Receiver).map_err(io::Error::other)?;
        let word = lane as usize % (SharedPage::WORDS / 2);
        let work = Arc::new(work);
        let outcomes = Arc::new(Outcomes::of_lane(Arc::clone(&work), unsent, word));
        talk.serves(&outcomes);
        let services = Services {
            talk: Arc::clone(&talk),
            outcomes: Arc::clone(&outcomes),
            level: hello.log_level,
            settings: hello.construct.settings.to_string(),
        };
        let construct = ConstructRequest {
            lane,
            ..hello.construct.clone()
        };
        let built = crate::plugin::open_descriptor(shared.library.as_fd(), &hello.symbol)
            .map_err(|error| error.of_file(&hello.library).to_string())
            .and_then(|module| {
                module
                    .construct_instance(&construct, Host::new(Arc::new(services)))
                    .map_err(|failure| match failure.kind {
                        FailureKind::PANIC => format!("its constructor panicked: {}", failure.message),
                        _ => format!("its constructor failed: {}", failure.message),
                    })
            });
        let instance = match built {
            Ok(instance) => instance,
            Err(why) => {
                talk.finish();
                outcomes.say(&FromLane::NotBuilt(&why));
                return Ok(None);
            }
        };
        if hello.takes {
            outcomes.tell_completed(lane)?;
        }
        outcomes.say(&FromLane::Up);
        Ok(Some(Self {
            work,
            outcomes,
            lane: word,
            reads_headers: hello.reads_headers,
            hold_on_reject: hello.hold_on_reject,
            takes: hello.takes,
            arena: Arc::new(arena),
            cells: Rc::new(cells),
            cuts,
            names: Names::default(),
            released: Vec::new(),
            held: Vec::new(),
            views: Vec::new(),
            count: 0,
            instance: Some(instance),
            talk,
        }))
    }

    /// Until the instance is broken or the daemon closes the socket; the talk thread ends the process then.
    fn digest_all(mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_FRAME];
        let mut fds = Vec::new();
        loop {
            fds.clear();
            let bytes = match self.work.receive_with_fds(&mut buffer, &mut fds, Wait::Yes)? {
                Received::Frame(bytes) => bytes,
                Received::Nothing => continue,
                Received::Reset | Received::Closed => return Ok(()),
            };
            let frame = ToLane::decode(&buffer[..bytes]).map_err(io::Error::other)?;
            match self.take(frame, fds.pop())? {
                Next::Frame => {}
                Next::Nothing => return Ok(()),
            }
        }
    }

    fn take(&mut self, frame: ToLane<'_>, beside: Option<OwnedFd>) -> io::Result<Next> {
        let beside = || {
            beside
                .as_ref()
                .ok_or_else(|| io::Error::other("a frame without its memory"))
        };
        match frame {
            ToLane::Learn(names) => {
                names.for_each(|(slot, partition, topic)| self.names.learn(slot, topic, partition));
            }
            ToLane::Released(tags) => self.released.extend(tags.iter()),
            ToLane::Held(tags) => self.held.extend(tags.iter()),
            ToLane::Call(call) => {
                let memory = match call.place {
                    PlaceKind::Arena => Arc::clone(&self.arena),
                    PlaceKind::Beside => {
                        let bytes = usize::try_from(call.start + call.bytes).map_err(io::Error::other)?;
                        Arc::new(SharedView::map(beside()?.as_fd(), bytes).map_err(io::Error::other)?)
                    }
                };
                return self.digest_piece(&call, &memory);
            }
            ToLane::Stored { number, places } => {
                let places: Vec<u32> = places.iter().collect();
                let memory = Arc::clone(&self.arena);
                return self.digest(number, &memory, Lies::Places(places));
            }
            ToLane::Lifecycle(json) => {
                let step = if json.is_empty() {
                    serde_json::from_slice(&read_bounded(beside()?.as_fd(), MAX_BESIDE)?)?
                } else {
                    serde_json::from_str(json)?
                };
                return self.step(&step);
            }
            ToLane::Arena { bytes } => {
                let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
                self.arena = Arc::new(SharedView::map(beside()?.as_fd(), bytes).map_err(io::Error::other)?);
            }
        }
        Ok(Next::Frame)
    }

    fn digest_piece(&mut self, frame: &CallFrame, memory: &Arc<SharedView>) -> io::Result<Next> {
        let outside = || io::Error::other("a call outside of its memory");
        let start = usize::try_from(frame.start).map_err(io::Error::other)?;
        let end = usize::try_from(frame.bytes)
            .ok()
            .and_then(|bytes| start.checked_add(bytes))
            .ok_or_else(outside)?;
        self.count = frame.count;
        self.digest(frame.number, memory, Lies::Piece(start..end))
    }

    fn digest(&mut self, number: u64, memory: &Arc<SharedView>, lies: Lies) -> io::Result<Next> {
        let outside = || io::Error::other("a call outside of its memory");
        // What was taken back may lie elsewhere by now: nothing of it is looked at.
        if CutNumber::in_word(self.cuts.word(self.lane)).cuts(number) {
            return Ok(self.not_looked_at(number));
        }
        let began = Instant::now();
        let mut views = views::recycle(std::mem::take(&mut self.views));
        let mut headers = Vec::new();
        let wanted = self.reads_headers.then_some(&mut headers);
        let whole = match &lies {
            Lies::Piece(range) => {
                let bytes = memory.get(range.clone()).ok_or_else(outside)?;
                views::of_records(bytes, self.count, &self.names, &mut views, wanted)
            }
            Lies::Places(places) => {
                views::of_places(memory, places.iter().copied(), &self.names, &mut views, wanted)
            }
        };
        if let Err(error) = whole {
            if CutNumber::in_word(self.cuts.word(self.lane)).cuts(number) {
                return Ok(self.not_looked_at(number));
            }
            return Err(io::Error::other(error));
        }
        let Some(instance) = &mut self.instance else {
            return Err(io::Error::other("a call after the instance was stopped"));
        };
        let own;
        let places = match &lies {
            Lies::Places(places) => places,
            // In memory of its own: the places are found by going through it.
            Lies::Piece(range) => {
                own = if self.takes {
                    views::places(memory, range.clone(), self.count)
                } else {
                    Vec::new()
                };
                &own
            }
        };
        let stored = self.takes.then_some(StoredCall {
            memory,
            places,
            names: &self.names,
            reads_headers: self.reads_headers,
        });
        let hosted = LaneCall::new(number, &self.outcomes, &headers, stored);
        let call = Call {
            number,
            messages: RSlice::from_slice(&views),
            released: RSlice::from_slice(&self.released),
            held: RSlice::from_slice(&self.held),
            hold_on_reject: self.hold_on_reject,
            cell: CallCell::in_word(self.cells.word(self.lane)),
            cut: CutNumber::in_word(self.cuts.word(self.lane)),
            host: CallHost::new(&hosted),
            more: ROption::RNone,
        };
        let current = Current::enter(Rc::new(Place {
            call: number,
            cells: Rc::clone(&self.cells),
            lane: self.lane,
            memory: Arc::clone(memory),
            lies: lies.clone(),
        }));
        let returned = instance.digest(&call);
        drop(current);
        hosted.tell_taken();
        drop(hosted);
        self.views = views::recycle(views);
        self.released.clear();
        self.held.clear();
        let broken = returned.broken.into_option();
        let next = if broken.is_some() {
            Next::Nothing
        } else {
            Next::Frame
        };
        if broken.is_some() {
            self.talk.finish();
        }
        self.outcomes.say(&FromLane::Returned {
            call: number,
            finished: returned.finished,
            took: nanoseconds(began.elapsed()),
            broken,
        });
        Ok(next)
    }

    /// Gives back a call that was cut before it came. What it lets go and holds is for the next.
    fn not_looked_at(&self, number: u64) -> Next {
        self.outcomes.say(&FromLane::Returned {
            call: number,
            finished: 0,
            took: 0,
            broken: None,
        });
        Next::Frame
    }

    fn step(&mut self, step: &LifecycleCall) -> io::Result<Next> {
        let Some(instance) = &mut self.instance else {
            return Err(io::Error::other(
                "a lifecycle call after the instance was stopped",
            ));
        };
        let current = Current::enter(Rc::new(AtStep));
        let mut answer = instance.lifecycle(step);
        drop(current);
        if *step == LifecycleCall::Stopped {
            // The daemon ends the process when it has the answer: what the instance does when it is dropped is done now.
            let ended = self.instance.take().map_or(Ok(()), Instance::end);
            answer = answer.and_then(|answer| ended.map(|()| answer));
            self.talk.finish();
        }
        match answer {
            Ok(answer) => {
                let json = serde_json::to_string(&answer)?;
                if json.len() <= MAX_INLINE {
                    self.outcomes.say(&FromLane::Answered(&json));
                } else {
                    let (mut frame, memory) = (Vec::new(), beside_frame(json.as_bytes())?);
                    FromLane::Answered("").encode(&mut frame);
                    self.outcomes.flush();
                    let _ = self.work.send(&frame, &[memory.as_fd()], Wait::Yes)?;
                }
                Ok(Next::Frame)
            }
            Err(failure) => {
                let next = if breaks(&failure) {
                    Next::Nothing
                } else {
                    Next::Frame
                };
                self.outcomes.say(&FromLane::StepFailed(failure));
                Ok(next)
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn breaks(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::PANIC | FailureKind::FATAL)
}
