//! The system's users, by name or number.

use std::{
    ffi::{CStr, CString},
    io,
    mem::MaybeUninit,
};

use serde::{Deserialize, Serialize};

/// A user, with what a process of it needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name; its number where it has none.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Its own group.
    pub group: u32,
    /// All groups that it is in.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: String,
}

/// The user of this name, or of this number where no user has that name. `None` if the system knows none.
///
/// # Errors
/// When the system's lists of users cannot be read.
pub fn find(name: &str) -> io::Result<Option<User>> {
    let c_name = CString::new(name).map_err(io::Error::other)?;
    let by_name = entry(|passwd, buffer, found| {
        // SAFETY: all pointers are valid for the call; the buffer's length is its own.
        unsafe { libc::getpwnam_r(c_name.as_ptr(), passwd, buffer.as_mut_ptr(), buffer.len(), found) }
    })?;
    match (by_name, name.parse::<u32>()) {
        (Some(user), _) => Ok(Some(user)),
        (None, Ok(id)) => entry(|passwd, buffer, found| {
            // SAFETY: as above.
            unsafe { libc::getpwuid_r(id, passwd, buffer.as_mut_ptr(), buffer.len(), found) }
        }),
        (None, Err(_)) => Ok(None),
    }
}

fn entry(
    ask: impl Fn(*mut libc::passwd, &mut [libc::c_char], *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    /// An entry is a few hundred bytes; a directory service may send more.
    const LARGEST: usize = 1 << 20;
    let mut buffer = vec![0; 4096];
    loop {
        let mut passwd = MaybeUninit::<libc::passwd>::zeroed();
        let mut found = std::ptr::null_mut();
        match ask(passwd.as_mut_ptr(), &mut buffer, &mut found) {
            0 if found.is_null() => return Ok(None),
            0 => {}
            libc::ERANGE if buffer.len() < LARGEST => {
                buffer.resize(buffer.len() * 4, 0);
                continue;
            }
            // What getpwnam_r(3) names as "not found" on other systems.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: the call returned 0 and found an entry, so it filled this one; its texts lie in `buffer`.
        let passwd = unsafe { passwd.assume_init() };
        // SAFETY: as above, and both are texts with an end.
        let (name, home) = unsafe { (CStr::from_ptr(passwd.pw_name), CStr::from_ptr(passwd.pw_dir)) };
        return Ok(Some(User {
            name: name.to_string_lossy().into_owned(),
            id: passwd.pw_uid,
            group: passwd.pw_gid,
            groups: groups_of(name, passwd.pw_gid),
            home: home.to_string_lossy().into_owned(),
        }));
    }
}

/// As many as a process can be in.
const MOST_GROUPS: usize = 65_536;

fn groups_of(name: &CStr, own: u32) -> Vec<u32> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: the name has an end, and `count` says how many groups there is room for.
        let done = unsafe { libc::getgrouplist(name.as_ptr(), own, groups.as_mut_ptr(), &mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 || groups.len() >= MOST_GROUPS {
            groups.truncate(count);
            return groups;
        }
        groups.resize(count.clamp(groups.len() * 2, MOST_GROUPS), 0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let root = find("root").unwrap().unwrap();
        assert_eq!((root.id, root.group, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0));
        assert_eq!(find("0").unwrap().unwrap(), root);
        assert_eq!(find("no-such-user-here").unwrap(), None);
        assert!(find("with\0nul").is_err());
    }
}
