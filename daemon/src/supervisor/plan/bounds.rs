//! What bounds a route's plugin process: whether this daemon and this kernel can hold it is found here.

use super::PlanFinding;
use crate::{
    lane::HomeConfig,
    os::{
        Bounds, cgroup, privileges, process,
        sandbox::{Landlock, Sandbox},
        users,
    },
    settings::{Limits, Route, RouteSandbox},
};

/// The bounds that the route asks for.
pub(super) fn of(route: &Route) -> Result<Bounds, Vec<PlanFinding>> {
    let mut findings = Vec::new();
    let mut finding = |key: &[&str], message: String| {
        let key = key.iter().map(|&key| key.to_owned()).collect();
        findings.push(PlanFinding {
            key,
            message,
            is_of_file: false,
        });
    };
    let Limits {
        memory,
        open_files,
        nice,
    } = route.bounds.limits;
    if let (Some(asked), Some(hard)) = (open_files, process::open_files_hard_limit())
        && asked > hard
    {
        finding(
            &["limits", "open_files"],
            format!(
                "{asked} is more than the {hard} that this daemon itself may have (`LimitNOFILE=` in its unit)"
            ),
        );
    }
    let user = route.bounds.user.as_deref().and_then(|name| {
        find_user(name)
            .map_err(|message| finding(&["user"], message))
            .ok()
    });
    let sandbox = route.bounds.sandbox.as_ref().map(|asked| {
        if let Some(lacks) = Landlock::of_this_kernel().lacks() {
            finding(&["sandbox"], format!("there can be no sandbox: {lacks}"));
        }
        for message in wrong_paths(asked) {
            finding(&["sandbox", "write"], message);
        }
        Sandbox {
            network: asked.network,
            write: asked.write.clone(),
        }
    });
    if findings.is_empty() {
        Ok(Bounds {
            memory,
            open_files,
            nice,
            user,
            sandbox,
        })
    } else {
        Err(findings)
    }
}

/// What of a route's bounds this system holds less well than the reader may think.
#[must_use]
pub fn warnings(route: &Route) -> Vec<PlanFinding> {
    let mut warnings = Vec::new();
    let mut warning = |key: &[&str], message: &str| {
        let key = key.iter().map(|&key| key.to_owned()).collect();
        warnings.push(PlanFinding {
            key,
            message: message.to_owned(),
            is_of_file: false,
        });
    };
    if route.bounds.sandbox.is_some()
        && let Some(open) = Landlock::of_this_kernel().leaves_open()
    {
        warning(&["sandbox"], open);
    }
    if route.bounds.limits.memory.is_some() && cgroup::Delegated::find().is_none() {
        warning(
            &["limits", "memory"],
            "the system has not handed the daemon a control group for memory (`Delegate=memory` in its unit): each \
             process of the plugin is limited by itself, by what it allocates (RLIMIT_DATA)",
        );
    }
    warnings
}

/// Lays the bounds over a home.
pub(super) fn set(home: &mut HomeConfig, bounds: Bounds) {
    if let Some(user) = &bounds.user {
        for (name, value) in [
            ("HOME", &user.home),
            ("USER", &user.name),
            ("LOGNAME", &user.name),
        ] {
            home.environment.retain(|(known, _)| known != name);
            home.environment.push((name.into(), value.into()));
        }
    }
    if bounds.memory.is_some() {
        // The allocator would take a GiB of address space at its start, which counts against such a limit in full.
        home.environment
            .push(("MIMALLOC_ARENA_EAGER_COMMIT".into(), "0".into()));
    }
    home.bounds = bounds;
}

fn find_user(name: &str) -> Result<users::User, String> {
    let user = users::find(name)
        .map_err(|error| format!("the users of this system cannot be read: {error}"))?
        .ok_or_else(|| format!("this system has no user `{name}`"))?;
    if privileges::is_user(&user) {
        return Ok(user);
    }
    let missing = privileges::missing_to_change_user()
        .map_err(|error| format!("what this daemon may do cannot be read: {error}"))?;
    if missing.is_empty() {
        return Ok(user);
    }
    let missing = missing.join(", ");
    Err(format!(
        "a daemon that runs as user {} may not start a process as `{name}`: it lacks {missing}. Give them to it \
         (`AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_KILL` in its unit), or leave `user` away",
        privileges::own_user()
    ))
}

fn wrong_paths(sandbox: &RouteSandbox) -> Vec<String> {
    let wrong = sandbox.write.iter().filter_map(|path| {
        let shown = path.display();
        if !path.is_absolute() {
            return Some(format!("`{shown}` is not absolute: write it from `/` on"));
        }
        match std::fs::metadata(path) {
            Ok(_) => None,
            Err(error) => Some(format!(
                "`{shown}` must be there before a sandbox is built around it: {error}"
            )),
        }
    });
    wrong.collect()
}
