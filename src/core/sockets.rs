//! The options of every TCP socket, towards clients and towards the upstream.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// The system starts to probe a peer after this much silence, to notice that it is gone. A held poll is silent for ten
/// seconds.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The unsent bytes that the system may hold for each connection. Without a limit, each client that requests a
/// recording and does not read it would use megabytes of memory that all connections of the machine share. Bytes on
/// their way to a client that reads do not count, so the limit does not slow it down. The system accepts more when half
/// of them are sent; at `limits.body_min_rate` that is within `limits.body_idle_timeout`.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 32 * 1024;

/// Sets the options for small messages that the peer waits for, and for peers that vanish or do not read. None of them
/// can fail on a live socket, and a connection without them still works.
pub fn prepare(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_client_that_does_not_read_uses_little_memory_of_the_system() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        prepare(&socket);
        let piece = vec![0; 16 * 1024];
        let mut taken = 0;
        // Writes until the system accepts no more.
        let refusal = loop {
            match socket.try_write(&piece) {
                Ok(count) => taken += count,
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(refusal, ErrorKind::WouldBlock);
        assert!((16 * 1024..512 * 1024).contains(&taken), "{taken}");
    }
}
