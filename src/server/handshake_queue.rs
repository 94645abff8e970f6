//! TLS handshakes run one step at a time, so that requests do not wait for many of them.
//!
//! A handshake costs as much as dozens of requests; an RSA signature alone takes most of a millisecond. After a restart
//! thousands of clients connect in the same second. If a worker ran all handshake steps that are ready in a row, a callout
//! that comes meanwhile would wait for all of them. So the worker runs one step, looks at its sockets again, serves what
//! is ready, and then runs the next step.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

/// The handshakes of one worker, first come, first served.
pub(super) struct HandshakeQueue(Semaphore);

impl HandshakeQueue {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }

    /// Runs `handshake` to its end, step by step. While it waits for its client, other handshakes run.
    pub(super) async fn run<F: Future + Unpin>(&self, mut handshake: F) -> F::Output {
        let wake = Arc::new(HandshakeWaker(Notify::new()));
        let waker = Waker::from(Arc::clone(&wake));
        loop {
            let turn = self.0.acquire().await;
            let step = Pin::new(&mut handshake).poll(&mut Context::from_waker(&waker));
            // tokio resumes a task that yields only after it has looked at the sockets.
            yield_now().await;
            drop(turn);
            match step {
                Poll::Ready(output) => return output,
                Poll::Pending => wake.0.notified().await,
            }
        }
    }
}

/// Wakes a handshake that returned `Pending`.
struct HandshakeWaker(Notify);

impl Wake for HandshakeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::{LocalSet, spawn_local};

    /// Of 40 handshakes that are ready at once, how many finish before a request that comes meanwhile.
    async fn handshakes_before_request(queue: Option<Rc<HandshakeQueue>>) -> usize {
        let done = Rc::new(Cell::new(0));
        let (handshakes_done, handshake_done) = (Rc::clone(&done), move || done.set(done.get() + 1));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = spawn_local(async move {
            socket.read_u8().await.unwrap();
            handshakes_done.get()
        });
        yield_now().await; // lets the request task start to read
        for _ in 0..40 {
            let (queue, done) = (queue.clone(), handshake_done.clone());
            spawn_local(async move {
                let work = Box::pin(async { done() });
                match queue {
                    Some(queue) => queue.run(work).await,
                    None => work.await,
                }
            });
        }
        client.write_all(b"x").await.unwrap();
        request.await.unwrap()
    }

    #[tokio::test]
    async fn a_request_does_not_wait_for_many_handshakes() {
        let queued = LocalSet::new().run_until(handshakes_before_request(Some(Rc::new(HandshakeQueue::new())))).await;
        assert!(queued < 5, "{queued}");
        let unqueued = LocalSet::new().run_until(handshakes_before_request(None)).await;
        assert!(unqueued > 30, "without the queue it does wait: {unqueued}");
    }

    #[tokio::test]
    async fn a_handshake_that_waits_for_its_client_delays_no_other() {
        let queue = HandshakeQueue::new();
        let (mut client, mut server) = tokio::io::duplex(16);
        let slow = queue.run(Box::pin(async move { server.read_u8().await.unwrap() }));
        let quick = async {
            queue.run(std::future::ready(())).await;
            client.write_u8(7).await.unwrap();
        };
        assert_eq!(tokio::join!(slow, quick).0, 7);
    }
}
