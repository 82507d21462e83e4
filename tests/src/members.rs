//! Several daemons in one group, each with a home of its own: they join, leave and come back, and what they said stays
//! for the scenario to read.

use std::{collections::BTreeSet, fs, time::Duration};

use libtest_mimic::Failed;

use crate::{
    control,
    daemon::{Daemon, Home, Line, Log, Settings, Signal},
    judge::Partition,
    process::Exit,
    scale, wait, workspace,
};

/// The daemons of a group.
#[derive(Debug)]
pub struct Members {
    members: Vec<Member>,
}

/// One of them.
#[derive(Debug)]
pub struct Member {
    home: Home,
    daemon: Option<Daemon>,
    leaves: bool,
    /// Of all its daemons, the oldest first.
    logs: Vec<Log>,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No daemon runs.
    Away,
    /// A daemon runs.
    Here,
    /// A daemon runs and was told to end.
    Leaving,
}

/// How long a daemon may take to end.
const END: Duration = Duration::from_secs(60);

// === impl Members ===

impl Members {
    /// So many members with the same settings. They differ in their homes alone, and so in state directory, settings
    /// path, and the static id that is made of it.
    pub fn new(name: &str, count: usize, settings: &Settings) -> Result<Self, Failed> {
        let member = |index| {
            let home = Home::new(&format!("{name}-{index}"))?;
            home.write(settings)?;
            Ok(Member {
                home,
                daemon: None,
                leaves: false,
                logs: Vec::new(),
            })
        };
        let members: Result<Vec<Member>, Failed> = (0..count).map(member).collect();
        Ok(Self { members: members? })
    }

    /// How many there are, here or not.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// One of them.
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// Where a member is. One that ended otherwise than by its own will and with status 0 is an error.
    pub fn standing(&mut self, index: usize) -> Result<Standing, Failed> {
        let member = &mut self.members[index];
        let Some(daemon) = &mut member.daemon else {
            return Ok(Standing::Away);
        };
        if daemon.is_alive() {
            let leaves = member.leaves;
            return Ok(if leaves { Standing::Leaving } else { Standing::Here });
        }
        let exit = daemon.wait(Duration::ZERO)?;
        let tail = daemon.log().tail();
        member.daemon = None;
        if member.leaves && exit == Exit::Status(0) {
            return Ok(Standing::Away);
        }
        Err(format!("member {index} ended with {exit:?}\n--- its log ends:\n{tail}").into())
    }

    /// Starts a daemon; returns at once.
    pub fn join(&mut self, index: usize) -> Result<(), Failed> {
        let member = &mut self.members[index];
        let daemon = member.home.start_again()?;
        member.logs.push(daemon.log().clone());
        member.leaves = false;
        member.daemon = Some(daemon);
        Ok(())
    }

    /// SIGTERM; returns at once.
    pub fn leave(&mut self, index: usize) -> Result<(), Failed> {
        let member = &mut self.members[index];
        if let Some(daemon) = &member.daemon {
            daemon.signal(Signal::TERM)?;
            member.leaves = true;
        }
        Ok(())
    }

    /// Waits until a member that was told to leave is away.
    pub fn await_away(&mut self, index: usize) -> Result<(), Failed> {
        if let Some(daemon) = &mut self.members[index].daemon {
            daemon.wait(scale::patience(END))?;
        }
        match self.standing(index)? {
            Standing::Away => Ok(()),
            other => Err(format!("member {index} is {other:?}").into()),
        }
    }

    /// All leave; returns once they are away.
    pub fn leave_all(&mut self) -> Result<(), Failed> {
        for index in 0..self.count() {
            self.leave(index)?;
        }
        for index in 0..self.count() {
            self.await_away(index)?;
        }
        Ok(())
    }

    /// Waits until the members that are here have `partitions` partitions between them, none has more than one above
    /// another, and no partition has two owners. (Each has to have said so: a daemon that is behind is not settled.)
    pub fn await_shared_out(&mut self, partitions: usize, within: Duration) -> Result<(), Failed> {
        let here = self.here()?;
        let members = &self.members;
        wait::until_told("the partitions to be shared out", within, || {
            let owned: Result<Vec<_>, Failed> = here.iter().map(|&index| members[index].owns()).collect();
            let owned = owned.map_err(|error| format!("{error:?}"))?;
            let counts: Vec<usize> = owned.iter().map(BTreeSet::len).collect();
            let all: BTreeSet<&Partition> = owned.iter().flatten().collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let even = least.zip(most).is_some_and(|(least, most)| most - least <= 1);
            if even && all.len() == partitions && counts.iter().sum::<usize>() == partitions {
                Ok(())
            } else {
                Err(format!("{counts:?}, {} in all", all.len()))
            }
        })?;
        Ok(())
    }

    fn here(&mut self) -> Result<Vec<usize>, Failed> {
        let mut here = Vec::new();
        for index in 0..self.count() {
            if self.standing(index)? == Standing::Here {
                here.push(index);
            }
        }
        Ok(here)
    }

    /// The partitions that some member said it lost. `None` for all: a line named the first ones only.
    pub fn lost(&self) -> Option<BTreeSet<Partition>> {
        let mut lost = BTreeSet::new();
        for line in self.lines(|line| is_revoke(line) && line.fields["lost"] == true) {
            lost.append(&mut named(&line)?);
        }
        Some(lost)
    }

    /// Every line of every daemon that `wanted` wants.
    pub fn lines(&self, mut wanted: impl FnMut(&Line) -> bool) -> Vec<Line> {
        let logs = self.members.iter().flat_map(|member| &member.logs);
        logs.flat_map(|log| log.all(&mut wanted)).collect()
    }
}

impl Drop for Members {
    /// What the daemons said stays with their homes, where those stay.
    fn drop(&mut self) {
        if !workspace::keep_files() {
            return;
        }
        for member in &self.members {
            for (number, log) in (1..).zip(&member.logs) {
                let text: String = log.lines().iter().map(|line| format!("{}\n", line.raw)).collect();
                // A look at it is all that is lost.
                let _ = fs::write(member.home.file(&format!("log-{number}")), text);
            }
        }
    }
}

// === impl Member ===

impl Member {
    /// What its present or last daemon said.
    pub fn log(&self) -> Log {
        self.logs.last().cloned().unwrap_or_default()
    }

    /// Its daemon's process.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// The partitions that its present daemon has, as it says when it is asked.
    pub fn owns(&self) -> Result<BTreeSet<Partition>, Failed> {
        let status = control::status_of(&self.home, "ledger")?;
        let owned = status["assignment"].as_array().into_iter().flatten();
        let named = owned.map(|one| {
            let partition = one["partition"]
                .as_i64()
                .and_then(|number| number.try_into().ok());
            one["topic"].as_str().map(str::to_owned).zip(partition)
        });
        let named: Option<BTreeSet<Partition>> = named.collect();
        named.ok_or_else(|| format!("status names no partitions: {status}").into())
    }
}

/// A daemon gives partitions up or gets some.
pub fn is_rebalance(line: &Line) -> bool {
    is_revoke(line) || line.says("partitions assigned")
}

/// A daemon gives partitions up.
pub fn is_revoke(line: &Line) -> bool {
    line.says("partitions revoked")
}

/// The partitions that a line names, `topic/partition` each; `None` if it names the first ones only.
fn named(line: &Line) -> Option<BTreeSet<Partition>> {
    let text = line.text("partitions")?;
    if text.contains(" more") {
        return None;
    }
    let words = text.split_ascii_whitespace();
    words
        .map(|word| {
            let (topic, partition) = word.rsplit_once('/')?;
            Some((topic.to_owned(), partition.parse().ok()?))
        })
        .collect()
}
