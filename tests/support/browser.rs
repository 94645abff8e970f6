//! A real Chromium without a window, driven by its DevTools protocol over a pipe.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{skip, within};

/// Descriptors 3 and 4 of the browser are its pipe; the shell makes them of its own input and output.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                     --disable-background-networking --disable-component-update --user-data-dir=\"$0\" \
                     --remote-debugging-pipe about:blank 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// One page of one browser.
pub(crate) struct Browser {
    /// Ends with this value.
    _child: Child,
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    session: String,
    number: u64,
    /// What the page complained about: errors of scripts, refused resources.
    pub(crate) complaints: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser; `None`, and a message, if none is installed.
    pub(crate) async fn start() -> Option<Self> {
        let installed = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("chromium").exists()));
        if !installed {
            skip("chromium is not installed");
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", START])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (commands, messages) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Self {
            _child: child,
            commands,
            messages,
            session: String::new(),
            number: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.command(&format!("{domain}.enable"), json!({})).await;
        }
        Some(browser)
    }

    /// Opens a page, and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        self.command("Page.navigate", json!({ "url": url })).await;
        let loaded = format!("document.readyState === 'complete' && location.href.startsWith({})", json!(url));
        self.until(&loaded).await;
    }

    /// The value of an expression. A promise is waited for.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Value {
        let value = self.try_evaluate(expression).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// As [`Self::evaluate`]; `Err` if the page was replaced meanwhile.
    async fn try_evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut outcome = self.try_command("Runtime.evaluate", parameters).await?;
        assert!(outcome.get("exceptionDetails").is_none(), "{expression}: {outcome}");
        Ok(outcome["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, condition: &str) {
        let event = condition.to_owned();
        within(event, async {
            // A page that is replaced takes its promises and the question with it, so the page is asked again and again.
            while self.try_evaluate(&format!("!!({condition})")).await != Ok(json!(true)) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Sets the size of the window, and light or dark.
    pub(crate) async fn appear(&mut self, width: u32, dark: bool) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", media).await;
    }

    /// Presses a key, as `Tab` or `Enter`.
    pub(crate) async fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code, "text": text});
            self.command("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Loads pages from now on without running their scripts.
    pub(crate) async fn without_scripts(&mut self) {
        self.command("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Saves the whole page as a picture, if `SCREENSHOTS` names a folder.
    pub(crate) async fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
        let size = self.command("Page.getLayoutMetrics", json!({})).await["cssContentSize"].clone();
        let clip = json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let parameters = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let picture = self.command("Page.captureScreenshot", parameters).await;
        let bytes = data_encoding::BASE64.decode(picture["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// Sends one command and returns its result.
    async fn command(&mut self, method: &str, parameters: Value) -> Value {
        let result = self.try_command(method, parameters).await;
        result.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends one command and returns its result, or the browser's error.
    async fn try_command(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).await.unwrap();
        let number = self.number;
        within(format!("{method} of the browser"), async {
            loop {
                let mut answer = self.message().await;
                if answer["id"] == number {
                    return match answer.get_mut("error") {
                        Some(error) => Err(error.take()),
                        None => Ok(answer["result"].take()),
                    };
                }
                if matches!(answer["method"].as_str(), Some("Log.entryAdded" | "Runtime.exceptionThrown")) {
                    self.complaints.push(answer["params"].take());
                }
            }
        })
        .await
    }

    async fn message(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.messages.read_until(0, &mut bytes).await.unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// axe-core finds nothing. `AXE_CORE` names its file, `axe.min.js` of the npm package axe-core.
pub(crate) async fn check_accessibility(browser: &mut Browser, name: &str) {
    let Some(file) = std::env::var_os("AXE_CORE") else {
        skip(&format!("accessibility of {name}: AXE_CORE names no axe.min.js"));
        return;
    };
    browser.evaluate(&std::fs::read_to_string(file).unwrap()).await;
    let run = "axe.run(document, {rules: {region: {enabled: true}}}).then(found => found.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' | ')))";
    let found = browser.evaluate(run).await;
    assert_eq!(found, json!([]), "{name}");
}
