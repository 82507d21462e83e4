//! The places where two threads meet without a lock, under every interleaving that the memory model allows (loom): taking
//! back what a lane has not begun, the outcomes of messages that other threads complete, and what may be committed of
//! them. The code under test cannot run inside loom, which brings its own atomics; these are its steps, one by one.
#![allow(clippy::unwrap_used)]

use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering, fence},
    },
    thread,
};

/// `plugin-api/src/run.rs` (`may_begin`) and `Home::recall`: the lane stores its cell, passes the barrier, looks at the cut;
/// the daemon raises the cut, passes the barrier, reads the cell. (The lane's half of the barrier is a compiler fence; the
/// daemon's is membarrier, which makes every thread of the other side pass a full one. Together: a full one on both.) What
/// lies above the cell that was read is never begun; and a message is never both begun and handed to another lane.
#[test]
fn what_was_taken_back_is_never_begun() {
    const MESSAGES: u64 = 3;
    loom::model(|| {
        let (cell, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let lane = {
            let (cell, cut) = (Arc::clone(&cell), Arc::clone(&cut));
            thread::spawn(move || {
                let mut begun = 0;
                // Indexes from 1, so that 0 is "nothing stored yet".
                for index in 1..=MESSAGES {
                    cell.store(index, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    if cut.load(Ordering::Relaxed) > 0 {
                        break;
                    }
                    begun = index;
                }
                begun
            })
        };
        cut.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let taken_back_above = cell.load(Ordering::Relaxed);
        let begun = lane.join().unwrap();
        assert!(
            begun <= taken_back_above,
            "{begun} was begun and taken back above {taken_back_above}"
        );
    });
}

/// Without the barrier it would not hold: the test above can fail.
#[test]
#[should_panic(expected = "begun and taken back")]
fn without_the_barrier_it_would_be() {
    loom::model(|| {
        let (cell, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let lane = {
            let (cell, cut) = (Arc::clone(&cell), Arc::clone(&cut));
            thread::spawn(move || {
                cell.store(1, Ordering::Relaxed);
                u64::from(cut.load(Ordering::Relaxed) == 0)
            })
        };
        cut.store(1, Ordering::Relaxed);
        let taken_back_above = cell.load(Ordering::Relaxed);
        let begun = lane.join().unwrap();
        assert!(begun <= taken_back_above, "begun and taken back");
    });
}

/// `lane/host_call.rs`, `Outcomes::completed`: who finds nobody sending sends, and takes along what comes meanwhile. No
/// completion stays behind, none is sent twice.
#[test]
fn every_completion_is_sent_once() {
    #[derive(Default)]
    struct Queue {
        waiting: Vec<u32>,
        sending: bool,
    }
    fn completed(queue: &Mutex<Queue>, socket: &Mutex<Vec<u32>>, index: u32) {
        let mut held = queue.lock().unwrap();
        held.waiting.push(index);
        if held.sending {
            return;
        }
        held.sending = true;
        loop {
            let waiting = std::mem::take(&mut held.waiting);
            if waiting.is_empty() {
                held.sending = false;
                return;
            }
            drop(held);
            socket.lock().unwrap().extend(waiting);
            held = queue.lock().unwrap();
        }
    }
    loom::model(|| {
        let (queue, socket) = (
            Arc::new(Mutex::new(Queue::default())),
            Arc::new(Mutex::new(Vec::new())),
        );
        let other = {
            let (queue, socket) = (Arc::clone(&queue), Arc::clone(&socket));
            thread::spawn(move || completed(&queue, &socket, 1))
        };
        completed(&queue, &socket, 2);
        other.join().unwrap();
        let mut sent = socket.lock().unwrap().clone();
        sent.sort_unstable();
        assert_eq!(sent, [1, 2]);
    });
}

/// `lane/thread_lane.rs` and `worker/outcomes.rs`: a lane says that a message failed before its cell moves on; who reads the
/// cell first and what was said after it never takes a failed message for done. So the frontier, which is what is
/// committed, does not pass it, also when the lane is read in the middle of a call or is gone.
#[test]
fn a_failed_message_is_never_taken_for_done() {
    loom::model(|| {
        let (cell, said) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let lane = {
            let (cell, said) = (Arc::clone(&cell), Arc::clone(&said));
            thread::spawn(move || {
                // Message 0 is done, 1 fails, 2 is done.
                cell.store(0, Ordering::Relaxed);
                cell.store(1, Ordering::Relaxed);
                said.lock().unwrap().push(1);
                cell.store(2, Ordering::Relaxed);
                cell.store(3, Ordering::Relaxed);
            })
        };
        // `take_progress`: the cell, then what was said.
        let reached = cell.load(Ordering::Relaxed);
        // The queue is a synchronised one: what was pushed before the cell moved is seen after a look at the queue, which
        // comes after the look at the cell.
        fence(Ordering::SeqCst);
        let failed = said.lock().unwrap().clone();
        let frontier = (0..reached)
            .find(|index| failed.contains(index))
            .unwrap_or(reached);
        assert!(
            frontier <= 1,
            "message 1 failed, and {frontier} would be committed"
        );
        lane.join().unwrap();
    });
}
