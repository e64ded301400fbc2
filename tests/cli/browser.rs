//! A headless Chromium, driven over pipes, and a server of static files.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Names of the program.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// What a page may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A page in a browser.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    calls: u64,
    _profile: TempDir,
}

impl Browser {
    /// With WebGPU on the CPU. `None` without Chromium, which is said.
    pub fn open(url: &str) -> Option<Browser> {
        let Some(program) = NAMES.iter().find(|name| Command::new(name).arg("--version").output().is_ok()) else {
            eprintln!("the web page is not tested in a browser: Chromium is missing (Debian: apt install chromium)");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        // Its pipes are the descriptors 3 and 4.
        let pipes = "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", pipes, program, "--headless=new", "--no-sandbox", "--remote-debugging-pipe"])
            .args(["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--use-angle=vulkan", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser = Browser { child, to, from, session: None, calls: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": url }));
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attached);
        browser.session = Some(attached["sessionId"].as_str().unwrap().into());
        Some(browser)
    }

    /// A command of the DevTools protocol.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut answer = vec![];
            assert!(self.from.read_until(0, &mut answer).unwrap() > 0, "Chromium ended");
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression) != true {
            assert!(start.elapsed() < PATIENCE, "{expression}: {}", self.value("document.body.textContent"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Chooses a file in the page's input.
    pub fn choose(&mut self, file: &Path) {
        let asked = json!({ "expression": "document.querySelector('input[type=file]')" });
        let input = self.call("Runtime.evaluate", asked)["result"]["objectId"].clone();
        let file = file.canonicalize().unwrap();
        self.call("DOM.setFileInputFiles", json!({ "files": [file.to_str().unwrap()], "objectId": input }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _ = self.child.wait();
    }
}

/// Serves the files of `folder` until the test ends; returns the page's address.
pub fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let address = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            std::thread::spawn(move || drop(answer(stream, &folder)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/');
    let file = folder.join(if path.is_empty() { "index.html" } else { path });
    let mut body = vec![];
    let status = match std::fs::File::open(&file) {
        Ok(mut of) => of.read_to_end(&mut body).map(|_| "200 OK")?,
        Err(_) => "404 Not Found",
    };
    let kind = match file.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => "application/octet-stream",
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}
