//! systemd and the gateway: readiness, reloads, and sockets that systemd holds while the gateway restarts.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::hammer::Hammer;
use crate::support::{RUN, Request, Setup, Site, outcome, within};

/// The next message to systemd.
async fn message(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = within("a message to systemd", socket.recv(&mut message)).await.unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[tokio::test]
async fn systemd_is_notified_of_each_state() {
    let site = Setup::plain().site().await;
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    let mut command = site.shell(RUN);
    command.env("NOTIFY_SOCKET", site.path("notify"));
    let mut gateway = site.run_with(command).await;
    assert_eq!(message(&socket).await, "READY=1\nSTATUS=serving\n");

    gateway.signal("HUP");
    let reloading = message(&socket).await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(message(&socket).await, "READY=1\nSTATUS=serving\n");

    site.configure("log.level = \"loud\"\nvalidation.mode = \"maybe\"");
    assert_eq!(gateway.admin_send(&Request::admin("POST", "/reload")).await.status, 409);
    assert!(message(&socket).await.starts_with("RELOADING=1\n"));
    let refused = message(&socket).await;
    assert!(refused.starts_with("READY=1\nSTATUS=serving; the last reload was refused: "), "{refused}");
    assert!(refused.contains("log.level") && refused.contains("validation.mode"), "{refused}");
    assert_eq!(refused.lines().count(), 2, "{refused}");

    gateway.signal("TERM");
    assert!(message(&socket).await.starts_with("STOPPING=1\nSTATUS="));
    assert!(gateway.ended().await.success());
}

/// As systemd would: the sockets are descriptors 3 and 4, and the process that they are meant for is named.
fn activated(site: &Site, listener: &TcpListener, admin: &TcpListener) -> Command {
    let mut command = site.shell(&format!(
        "exec 3<&0 4<&2 0</dev/null 2>/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=listener:admin; {RUN}"
    ));
    command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    command.stderr(OwnedFd::from(admin.try_clone().unwrap()));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_refuse_no_client() {
    let site = Setup::plain().settings("runtime.workers = 2\nshutdown.drain = \"10s\"").site().await;
    let [listener, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let mut gateway = site.run_with(activated(&site, &listener, &admin)).await;
    assert_eq!((gateway.address, gateway.admin_address), (address, admin.local_addr().unwrap()));

    let hammer = Hammer::start(&gateway, 4);
    for _ in 0..5 {
        hammer.wait_for(200).await;
        assert!(gateway.stop().await.success());
        gateway = site.run_with(activated(&site, &listener, &admin)).await;
    }
    hammer.wait_for(200).await;
    hammer.stop().await;
    assert!(gateway.admin("/metrics").await.text().contains("previewgate_config_last_reload_successful"));
    assert!(gateway.stop().await.success());
}

#[tokio::test]
async fn unsuitable_systemd_sockets_are_refused() {
    let site = Setup::plain().site().await;
    let [listener, admin] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let script = "exec 3<&0 4<&1 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
    let mut command = site.shell(&format!("{script}; {RUN}"));
    command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::from(OwnedFd::from(admin)));
    let (status, complaint) = outcome(command).await;
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("two sockets were passed"), "{complaint}");
}
