//! What passes between the gateway and systemd: sockets that it holds for us, and news of how we are.
//!
//! Without systemd (no `LISTEN_FDS`, no `NOTIFY_SOCKET` in the environment) all of this does nothing.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// `FileDescriptorName=` of the socket for operators; every other name is the applications' socket, because systemd
/// calls a socket after its unit unless told otherwise.
const ADMIN: &str = "admin";

/// Listening sockets that were there before the process and will outlive it: while it restarts, clients wait in their
/// backlog instead of being refused.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Used instead of binding `listener.address`.
    pub listener: Option<TcpListener>,
    /// Used instead of binding `admin.address`.
    pub admin: Option<TcpListener>,
}

impl Inherited {
    /// Takes the sockets that systemd passed (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`). Changes the environment:
    /// to be called before there are threads.
    ///
    /// # Errors
    /// When something else than a TCP socket was passed, or two for one purpose.
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

/// Tells systemd how the service is (`Type=notify`). That it cannot be told harms nobody but itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notifier {
    listening: bool,
}

impl Notifier {
    /// Speaks if somebody listens. [`Notifier::default`] never does: for gateways that are not the process.
    pub fn from_environment() -> Self {
        Self { listening: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// The service serves.
    pub fn ready(self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&on_one_line(status))]);
    }

    /// A reload has begun; [`Notifier::ready`] ends it, however it went.
    pub fn reloading(self) {
        // Since version 253 systemd ends a service that does not say when.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]);
        }
    }

    /// The orderly end has begun.
    pub fn stopping(self) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status("shutting down: finishing what was begun")]);
    }

    fn tell(self, news: &[NotifyState<'_>]) {
        if self.listening
            && let Err(error) = sd_notify::notify(news)
        {
            tracing::debug!(target: "previewgate", %error, "systemd cannot be told");
        }
    }
}

/// A line feed would begin another assignment.
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
    fn a_status_is_one_line() {
        assert_eq!(on_one_line("refused:\n  a\n  READY=1"), "refused:; a; READY=1");
    }
}
