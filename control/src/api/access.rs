//! Who is at the other end of a connection, and what they may do.
//!
//! Who it is comes from the kernel (`SO_PEERCRED`); which groups an account is in comes from `/etc/passwd` and
//! `/etc/group`, read anew for each connection. Accounts that only a directory service knows are in their primary group
//! alone: give them an entry in `/etc/group`.

use std::fs;
use std::path::{Path, PathBuf};

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look: `status`, `show`, `plan`.
    Reader,
    /// Change things too.
    Admin,
}

/// The process at the other end, as the kernel knew it when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; none where it is of another pid namespace.
    pub pid: Option<i32>,
}

/// Somebody who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id; for messages alone, since it may be another process's by now.
    pub pid: Option<i32>,
    /// What the peer may do.
    pub role: Role,
}

/// The groups whose members may use the API. Root and the daemon's own account always may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Group whose members may change things.
    pub admin: String,
    /// Group whose members may look.
    pub read: String,
    etc: PathBuf,
}

impl Groups {
    /// Groups of this machine. Neither needs to exist.
    #[must_use]
    pub fn new(admin: impl Into<String>, read: impl Into<String>) -> Self {
        Self { admin: admin.into(), read: read.into(), etc: PathBuf::from("/etc") }
    }

    /// The same, with `passwd` and `group` in another folder.
    #[must_use]
    pub fn in_folder(self, etc: impl Into<PathBuf>) -> Self {
        Self { etc: etc.into(), ..self }
    }

    /// What the peer may do; none: nothing.
    #[must_use]
    pub fn role(&self, peer: Credentials) -> Option<Role> {
        if peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw() {
            return Some(Role::Admin);
        }
        let (passwd, group) = (self.read_file("passwd"), self.read_file("group"));
        let users: Vec<&str> =
            entries(&passwd).filter(|user| user.id == Some(peer.uid)).map(|user| user.name).collect();
        let member = |name: &str| {
            entries(&group).filter(|group| group.name == name).any(|group| {
                group.id == Some(peer.gid)
                    || users.iter().any(|user| group.rest.split(',').any(|m| m == *user))
            })
        };
        if member(&self.admin) { Some(Role::Admin) } else { member(&self.read).then_some(Role::Reader) }
    }

    /// Ids of the admin and the read group, of those that exist.
    pub(super) fn ids(&self) -> (Option<u32>, Option<u32>) {
        let group = self.read_file("group");
        let id = |name: &str| entries(&group).find(|group| group.name == name).and_then(|group| group.id);
        (id(&self.admin), id(&self.read))
    }

    /// A file that cannot be read names nobody.
    fn read_file(&self, name: &str) -> String {
        fs::read(self.etc.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

/// The name of a group of this machine.
#[must_use]
pub fn group_name(gid: u32) -> Option<String> {
    let text = fs::read_to_string(Path::new("/etc/group")).ok()?;
    entries(&text).find(|group| group.id == Some(gid)).map(|group| group.name.to_owned())
}

/// A line of passwd(5) or group(5): both begin with the name, the password and the id.
struct Entry<'t> {
    name: &'t str,
    id: Option<u32>,
    /// group: the members. passwd: the primary group and more, which `SO_PEERCRED` answers better.
    rest: &'t str,
}

fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(4, ':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        // nsswitch's "+" and "-" lines name nobody themselves.
        let plain = !name.is_empty() && !name.starts_with(['+', '-', '#']);
        plain.then(|| Entry { name, id: id.parse().ok(), rest: fields.next().unwrap_or_default().trim_end() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/:/bin/sh\nann:x:1001:1001::/:/bin/sh\nann2:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:\nbroken\n";
    const GROUP: &str = "zsync-admin:x:900:ann,carl\nzsync:x:901:bob,ann2\n+::0:\nann:x:1001:\nstaff:x:50:\n";

    #[test]
    fn roles() {
        let etc = std::env::temp_dir().join(format!("zsync-access-{}", std::process::id()));
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("passwd"), PASSWD).unwrap();
        fs::write(etc.join("group"), GROUP).unwrap();
        let groups = Groups::new("zsync-admin", "zsync").in_folder(&etc);
        let role = |uid, gid| groups.role(Credentials { uid, gid, pid: None });
        let own = rustix::process::geteuid().as_raw();
        let answers = [
            (role(0, 0), Some(Role::Admin)),
            (role(own, 5), Some(Role::Admin)),
            (role(1001, 1001), Some(Role::Admin)), // by the first of two names
            (role(1002, 1002), Some(Role::Reader)),
            (role(1002, 900), Some(Role::Admin)), // by the primary group
            (role(1003, 901), Some(Role::Reader)),
            (role(1003, 1003), None),
            (role(1003, 50), None),
        ];
        let ids = groups.ids();
        let nobody = Groups::new("staff", "none").in_folder(etc.join("missing"));
        let stranger = nobody.role(Credentials { uid: 1001, gid: 1001, pid: None });
        fs::remove_dir_all(&etc).unwrap();
        for (at, (got, want)) in answers.into_iter().enumerate() {
            assert_eq!(got, want, "{at}");
        }
        assert_eq!(ids, (Some(900), Some(901)));
        assert_eq!((stranger, nobody.ids()), (None, (None, None)));
    }
}
