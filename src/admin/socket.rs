//! The Unix socket of the admin listener: the permissions of its file decide who may connect.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::SocketMode;

/// A bound socket. Its file is removed on drop, unless another process has replaced it or will do so.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    file: SocketFile,
    left: Arc<AtomicBool>,
}

/// Leaves the file of a socket to another process, which puts its own in place.
#[derive(Clone, Debug)]
pub struct SocketLeaver(Arc<AtomicBool>);

impl SocketLeaver {
    /// From now on the file is not removed on drop: no client finds none until the other process has replaced it.
    pub fn leave(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A file, whatever its name is: its device and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile(pub u64, pub u64);

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self(found.dev(), found.ino()))
    }
}

impl AdminSocket {
    /// Binds the socket. Replaces the file of a gateway that was killed.
    ///
    /// # Errors
    /// When a running process listens there, when the file is not a socket, or when the path cannot be written.
    pub fn bind(path: &Path, mode: SocketMode) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode.0))?;
        Ok(Self { listener, path: path.to_owned(), file: SocketFile::at(path)?, left: Arc::default() })
    }

    /// Binds the socket under another name, while the process from which this one takes over may still have its own at
    /// `path`. [`Self::put_in_place`] must follow. `theirs` is the file of that process.
    ///
    /// # Errors
    /// When something that is no socket is at `path`, when another process listens there, or when the directory cannot be
    /// written.
    pub fn bind_aside(path: &Path, mode: SocketMode, theirs: Option<SocketFile>) -> io::Result<Self> {
        if theirs.is_none() || SocketFile::at(path).ok() != theirs {
            match listening(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(Some(_)) => return Err(in_use()),
                Ok(None) => {}
            }
        }
        Self::bind(&aside(path), mode)
    }

    /// The file of this socket.
    pub fn file(&self) -> SocketFile {
        self.file
    }

    /// What leaves the file to another process.
    pub fn leaver(&self) -> SocketLeaver {
        SocketLeaver(Arc::clone(&self.left))
    }

    /// Puts a socket that was bound under another name in place of the one at `path`: no client finds neither.
    ///
    /// # Errors
    /// The system's.
    pub fn put_in_place(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// The socket for a runtime.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let left = self.left.load(Ordering::Acquire);
        if !left && SocketFile::at(&self.path).is_ok_and(|found| found == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match listening(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(Some(_)) => Err(in_use()),
        Ok(None) => fs::remove_file(path),
    }
}

/// A connection to the process that listens at `path`; none if there is a socket and no process listens.
fn listening(path: &Path) -> io::Result<Option<UnixStream>> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is there: remove it, or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")
}

/// A name in the same directory that is not longer: the path of a socket has a limit.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_bytes().to_owned();
    if let Some(last) = name.last_mut() {
        *last = if *last == b'~' { b'-' } else { b'~' };
    }
    path.with_file_name(OsStr::from_bytes(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: SocketMode = SocketMode(0o660);

    #[test]
    fn a_socket_that_is_left_to_another_process_keeps_its_file_until_that_one_is_in_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let old = AdminSocket::bind(&path, MODE).unwrap();
        let mut new = AdminSocket::bind_aside(&path, MODE, Some(old.file())).unwrap();
        old.leaver().leave();
        drop(old);
        assert!(path.exists());
        new.put_in_place(&path).unwrap();
        assert_eq!(SocketFile::at(&path).unwrap(), new.file());
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        // A stale file: its listener is gone.
        drop(UnixListener::bind(&path).unwrap());
        let socket = AdminSocket::bind(&path, MODE).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(AdminSocket::bind(&path, MODE).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert_eq!(AdminSocket::bind(&path, MODE).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_socket_that_was_bound_aside_replaces_the_one_in_use() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["admin.sock", "~", "x"] {
            let path = directory.path().join(name);
            let old = AdminSocket::bind(&path, MODE).unwrap();
            // A process that fails before it serves leaves nothing behind.
            let own = Some(old.file());
            drop(AdminSocket::bind_aside(&path, MODE, own).unwrap());
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            // What another gateway has is not taken.
            for others in [None, Some(SocketFile(0, 0))] {
                let refused = AdminSocket::bind_aside(&path, MODE, others).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            }
            let mut new = AdminSocket::bind_aside(&path, SocketMode(0o600), own).unwrap();
            assert_eq!(Some(SocketFile::at(&path).unwrap()), own);
            new.put_in_place(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            drop(old);
            assert_eq!(SocketFile::at(&path).unwrap(), new.file());
            UnixStream::connect(&path).unwrap();
            drop(new);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        }
        let path = directory.path().join("file");
        fs::write(&path, "mine").unwrap();
        assert_eq!(AdminSocket::bind_aside(&path, MODE, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_file_of_a_successor_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = AdminSocket::bind(&path, MODE).unwrap();
        fs::rename(&path, directory.path().join("old.sock")).unwrap();
        let successor = AdminSocket::bind(&path, MODE).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }
}
