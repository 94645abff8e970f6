//! The interface to systemd: sockets that systemd passes, and notifications of the state of the service.
//!
//! Without systemd (no `LISTEN_FDS`, no `NOTIFY_SOCKET` in the environment) nothing here has an effect.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// `FileDescriptorName=` of the socket for operators. A socket with any other name is for applications: without that
/// setting, systemd names a socket after its unit.
const ADMIN: &str = "admin";

/// How long a notification may wait for systemd to read earlier ones. Signals and reloads wait during this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listening sockets that systemd holds. They stay open while the process restarts: clients wait in their backlog
/// instead of being refused.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Used instead of binding `listener.address`.
    pub listener: Option<TcpListener>,
    /// Used instead of binding `admin.address`.
    pub admin: Option<TcpListener>,
}

impl Inherited {
    /// Takes the sockets that systemd passed (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`). It changes the
    /// environment, so it must be called before threads are started.
    ///
    /// # Errors
    /// When anything but a TCP socket was passed, or two sockets for one purpose.
    pub fn from_environment() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for position in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            if let Some(socket) = passed.take_tcp_listener(position)? {
                inherited.put(name, socket)?;
            }
        }
        Ok(inherited)
    }

    fn put(&mut self, name: &str, socket: TcpListener) -> io::Result<()> {
        let (place, purpose) =
            if name == ADMIN { (&mut self.admin, "admin") } else { (&mut self.listener, "applications") };
        match place.replace(socket) {
            None => Ok(()),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("two sockets were passed for the {purpose}; the one for operators must be named \"{ADMIN}\""),
            )),
        }
    }
}

/// Notifies systemd of the state of the service (`Type=notify`). Notification failures are logged and otherwise
/// ignored.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<SocketAddr>,
}

impl Notifier {
    /// Notifies the socket in `NOTIFY_SOCKET`, if it is set. [`Notifier::default`] never notifies: it is for a gateway
    /// that is only a part of its process.
    pub fn from_environment() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name).ok()) }
    }

    /// The service is ready.
    pub fn ready(&self, status: &str) {
        self.notify(&[NotifyState::Ready, NotifyState::Status(&on_one_line(status))]);
    }

    /// A reload has begun. [`Notifier::ready`] ends it, whether it succeeded or not.
    pub fn reloading(&self) {
        // Since version 253, systemd stops a service that does not send the time.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]);
        }
    }

    /// The orderly shutdown has begun.
    pub fn stopping(&self) {
        self.notify(&[NotifyState::Stopping, NotifyState::Status("shutting down: finishing open requests")]);
    }

    fn notify(&self, news: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let message: String = news.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = send(&message, socket) {
            tracing::warn!(target: "previewgate", %error, "cannot notify systemd of the state of the service");
        }
    }
}

/// A path, or an abstract name that is written with `@` for its NUL.
fn address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Unlike `sd_notify::notify`, it has a time limit if systemd does not read.
fn send(message: &str, to: &SocketAddr) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to_addr(message.as_bytes(), to).map(|_| ())
}

/// A line feed in the status would begin another assignment.
fn on_one_line(status: &str) -> String {
    status.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_socket_has_one_purpose_and_each_purpose_one_socket() {
        let mut inherited = Inherited::default();
        inherited.put("previewgate.socket", socket()).unwrap();
        inherited.put("admin", socket()).unwrap();
        assert!(inherited.listener.is_some() && inherited.admin.is_some());
        assert!(inherited.put("", socket()).unwrap_err().to_string().contains("applications"));
        assert!(inherited.put("admin", socket()).is_err());
    }

    #[test]
    fn a_manager_that_does_not_read_delays_the_gateway_only_briefly() {
        let name = format!("@previewgate-deaf-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&address(&name.into()).unwrap()).unwrap();
        let notifier = Notifier { socket: Some(socket.local_addr().unwrap()) };
        let full = |_: &i32| send("x", notifier.socket.as_ref().unwrap()).is_err();
        assert!((0..100_000).any(|round| full(&round)), "the queue has an end");
        notifier.stopping();
        let mut said = [0; 8];
        assert_eq!(socket.recv(&mut said).unwrap(), 1);
    }

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(on_one_line("refused:\n  a\n  READY=1"), "refused:; a; READY=1");
    }
}
