//! The group whose members may use the control socket: `devour`, where there is one and the daemon may give files to it.

use std::{fs, path::Path};

/// Its name.
const GROUP: &str = "devour";
/// Where groups are listed. A group that only a directory service knows is not found; the daemon's own stays then.
pub(super) const GROUPS: &str = "/etc/group";

/// Gives a file to the group, if there is one. That the daemon may not is no error: its own group keeps the file.
pub(super) fn give(file: &Path, groups: &Path) {
    let Some(id) = fs::read_to_string(groups)
        .ok()
        .and_then(|text| id_of(GROUP, &text))
    else {
        return;
    };
    if let Err(error) = std::os::unix::fs::lchown(file, None, Some(id)) {
        tracing::debug!(group = GROUP, %error, "the control socket stays with the daemon's own group");
    }
}

fn id_of(group: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = (fields.next() == Some(group)).then(|| fields.nth(1))??;
        id.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\ndevours:x:7:\n\n#devour:x:8:\ndevour:x:993:jim,jane\n";
        assert_eq!(id_of("devour", groups), Some(993));
        assert_eq!(id_of("devou", groups), None);
        assert_eq!(id_of("devour", "devour:x:\ndevour"), None);
    }
}
