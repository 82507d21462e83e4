//! Who a process is, and what it may do beyond other users: looked at in the daemon, given up in a plugin's process.

use std::io;

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::users::User;

/// What a daemon needs to run a plugin as another user: to become it, and to end what has become it.
const TO_CHANGE: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::KILL, "CAP_KILL"),
];

/// Whether this process runs as that user already.
#[must_use]
pub fn is_user(user: &User) -> bool {
    geteuid().as_raw() == user.id
}

/// The number of the user that this process runs as.
#[must_use]
pub fn own_user() -> u32 {
    geteuid().as_raw()
}

/// What is missing for a child of this process to become another user, and for this process to end it then.
///
/// # Errors
/// Never on Linux.
pub fn missing_to_change_user() -> io::Result<Vec<&'static str>> {
    let held = capabilities(None)?;
    // A child that is started through exec keeps of a user's capabilities only the ambient ones; root keeps all.
    let is_root = geteuid().is_root();
    let kept = |capability: CapabilitySet| {
        is_root || rustix::thread::capability_is_in_ambient_set(capability).unwrap_or(false)
    };
    Ok(TO_CHANGE
        .into_iter()
        .filter(|(capability, _)| !held.effective.contains(*capability) || !kept(*capability))
        .map(|(_, name)| name)
        .collect())
}

/// Becomes that user, for ever. To be called while the process has one thread: others would stay who they are.
///
/// # Errors
/// When the process may not.
pub fn become_user(user: &User) -> io::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (group, id) = (Gid::from_raw(user.group), Uid::from_raw(user.id));
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(id, id, id)?;
    Ok(())
}

/// Gives up what this process may do beyond other users, for ever, unless it is root. Capabilities that the daemon has
/// been given, to change a plugin's user for one, must not reach foreign code.
///
/// # Errors
/// Never on Linux.
pub fn drop_capabilities() -> io::Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    let held = capabilities(None)?;
    let none = CapabilitySet::empty();
    if held.permitted == none && held.inheritable == none {
        // Nothing to give up, and where nothing was given a service may not even ask (`SystemCallFilter=~@privileged`).
        return Ok(());
    }
    clear_ambient_capability_set()?;
    Ok(set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?)
}
