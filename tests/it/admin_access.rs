//! Who may use the admin listener: its Unix socket, and the token for changes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tokio::net::UnixStream;

use crate::support::{Request, Setup, Wire, within};

#[tokio::test]
async fn the_unix_socket_serves_the_same_and_is_removed_at_the_end() {
    let settings = "admin.socket = \"admin.sock\"\nadmin.socket_mode = \"0600\"";
    let lab = Setup::plain().settings(settings).start().await;
    let path = lab.site.path("admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let connect = async || Wire::over(within("the socket", UnixStream::connect(&path)).await.unwrap());
    let mut wire = connect().await;
    // The Host does not matter: no web page can connect here.
    for host in ["localhost", "anything.example"] {
        let request = Request::get("/readyz").header("Host", host);
        assert_eq!(wire.send(&request).await.text(), "ready\n");
    }
    assert_eq!(wire.send(&Request::admin("POST", "/reload")).await.status, 200);
    let user = std::fs::metadata(&path).unwrap().uid();
    let reloaded = lab.log.message("configuration reloaded").await;
    assert_eq!(reloaded["trigger"], format!("admin socket, uid {user}"));
    drop(wire);
    lab.close().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn with_a_token_a_reload_needs_it_and_reading_does_not() {
    let lab = Setup::plain().start().await;
    lab.site.write("token", "s3cret-token\n");
    lab.reload_with("admin.token = \"token\"");
    let reload = Request::admin("POST", "/reload");
    let refused = lab.admin_send(&reload).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, "Bearer"));
    let wrong = lab.admin_send(&reload.clone().header("Authorization", "Bearer guess")).await;
    assert_eq!(wrong.status, 401);
    let right = lab.admin_send(&reload.clone().header("Authorization", "Bearer s3cret-token")).await;
    assert_eq!(right.status, 200);
    assert_eq!(lab.admin("/readyz").await.status, 200);
    // The token can be replaced. Without its file, every reload is refused.
    lab.site.write("token", "another\n");
    assert_eq!(lab.admin_send(&reload.clone().header("Authorization", "Bearer another")).await.status, 200);
    std::fs::remove_file(lab.site.path("token")).unwrap();
    assert_eq!(lab.admin_send(&reload.header("Authorization", "Bearer another")).await.status, 503);
    assert!(!lab.logged().contains("s3cret-token"));
}
