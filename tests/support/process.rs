//! Programs that end with the test that started them, scratch folders, and waiting.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use procfs::{Current, Meminfo};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long anything in the test bed may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Who runs a program, when the tests run as root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The user who runs the tests.
    Same,
    /// Nobody, since database servers refuse to run as root.
    Nobody,
}

const NOBODY: u32 = 65534;

/// A command whose process is sent SIGQUIT when the tests end, however they do, and that sees
/// nothing of their environment but the path.
pub fn command(user: User, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=QUIT");
    if user == User::Nobody && getuid().is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir("/");
    command
}

/// Runs a command to its end; panics with what it said unless it succeeds.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A running program and all that it and its children have printed.
pub struct Process {
    pid: Pid,
    state: watch::Receiver<State>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    output: String,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let (reader, writer) = io::pipe().unwrap();
        command.stdin(Stdio::null());
        command.stdout(writer.try_clone().unwrap());
        command.stderr(writer);
        let child = spawn(command).unwrap();
        let pid = Pid::from_child(&child);
        let (sender, state) = watch::channel(State::default());
        let reader = std::thread::spawn(move || follow(reader, child, &sender));
        Self {
            pid,
            state,
            reader: Some(reader),
        }
    }

    /// The id of the process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What was printed so far, standard output and error in the order they came.
    pub fn output(&self) -> String {
        self.state.borrow().output.clone()
    }

    /// Waits for a line that holds these words; all the output, if the program ends before, or
    /// takes too long.
    pub async fn wait_for_line(&self, words: &str) -> Result<String, String> {
        let find = |line: &&str| line.contains(words);
        self.wait_for_output(|output| output.lines().find(find).map(str::to_owned))
            .await
    }

    /// Waits until `find` finds something in the output; all the output, if the program ends
    /// before, or takes too long.
    pub async fn wait_for_output<T>(
        &self,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, String> {
        let mut found = None;
        self.wait(|state| {
            found = find(&state.output);
            found.is_some() || state.status.is_some()
        })
        .await;
        found.ok_or_else(|| self.output())
    }

    /// Waits until the process, and every other that has its output open, is gone.
    pub async fn wait_for_end(&self) -> ExitStatus {
        self.wait(|state| state.status.is_some()).await;
        let status = self.state.borrow().status;
        status.unwrap_or_else(|| panic!("process {:?} does not end: {}", self.pid, self.output()))
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) {
        if self.state.borrow().status.is_none() {
            // It may be gone by now, which is as good.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Sends a signal and waits for the end, without a runtime, for destructors.
    pub fn end(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(reader) = self.reader.take() {
            let start = Instant::now();
            while !reader.is_finished() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.signal(Signal::KILL);
        }
    }

    async fn wait(&self, condition: impl FnMut(&State) -> bool) {
        let mut state = self.state.clone();
        // Neither a timeout nor an ended reader is news: the caller looks at the state.
        let _ = tokio::time::timeout(PATIENCE, state.wait_for(condition)).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Spawns on a thread that lives as long as the tests: the signal that a parent's death sends is
/// sent by the death of the parent's thread, and each test has its own.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                // A test that is gone needs no answer.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).unwrap();
    child.recv().unwrap()
}

fn follow(output: PipeReader, mut child: Child, state: &watch::Sender<State>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        state.send_modify(|state| state.output.push_str(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    let status = child.wait().unwrap();
    state.send_modify(|state| state.status = Some(status));
}

/// Waits until a condition holds; panics with its name when that takes too long.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    wait_at_most(PATIENCE, what, condition).await;
}

/// The same, for what takes longer by its nature.
pub async fn wait_at_most<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < patience, "{what}: not after {patience:?}");
        pause(start).await;
    }
}

/// A moment between two looks, the longer, the longer it has taken since `start`: who waits leaves
/// the machine to those who work.
pub async fn pause(start: Instant) {
    let [least, most] = [10, 250].map(Duration::from_millis);
    tokio::time::sleep((start.elapsed() / 20).clamp(least, most)).await;
}

/// A new folder, open to the user under whom servers run, that is removed with its owner. The
/// path is short, since that of a socket must be.
pub fn scratch() -> TempDir {
    static SWEPT: OnceLock<()> = OnceLock::new();
    SWEPT.get_or_init(sweep);
    let dir = tempfile::Builder::new()
        .prefix(&format!("{SCRATCH}{}-", std::process::id()))
        .rand_bytes(4)
        .tempdir_in(scratch_home())
        .unwrap();
    give(dir.path());
    dir
}

/// Where scratch folders are: in memory where a test has plenty, since a server's thousand files take
/// a disk ten times as long; programs have to run there.
fn scratch_home() -> &'static Path {
    const MEMORY: &str = "/dev/shm";
    const PLENTY: u64 = 8 << 30;
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let is_plenty = statvfs(MEMORY).is_ok_and(|memory| {
            let left = memory.f_bavail * memory.f_frsize;
            left >= PLENTY && !memory.f_flag.contains(StatVfsMountFlags::NOEXEC)
        });
        // A benchmark's data may be larger.
        let memory = Meminfo::current()
            .ok()
            .and_then(|memory| memory.mem_available);
        match cfg!(test) && is_plenty && memory >= Some(PLENTY) {
            true => MEMORY.into(),
            false => std::env::temp_dir(),
        }
    })
}

/// The same, for what many tests use: it is removed when all of them have ended, however they do.
pub fn lasting_scratch() -> PathBuf {
    static REMOVERS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let dir = scratch().keep();
    // Nothing runs when a test program ends, but its end is also that of this input.
    let script = r#"trap "" INT QUIT TERM; cat; exec rm -rf "$0""#;
    let mut remover = Command::new("sh");
    remover.args(["-c", script]).arg(&dir).stdin(Stdio::piped());
    remover.stdout(Stdio::null()).stderr(Stdio::null());
    REMOVERS.lock().unwrap().push(remover.spawn().unwrap());
    dir
}

/// Makes a file or folder belong to the user under whom servers run.
pub fn give(path: &Path) {
    if getuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

const SCRATCH: &str = "mpe-";

/// Removes what tests have left that were killed: folders, and frozen servers in them.
fn sweep() {
    for dir in list(scratch_home()) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let owner = name
            .strip_prefix(SCRATCH)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        if Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        for process in list(Path::new("/proc")) {
            let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir));
            let pid = process
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw).filter(|_| inside) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        // Another user's stay.
        let _ = fs::remove_dir_all(dir);
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// The processes that a process has started, with the letter of their state.
pub fn children(parent: Pid) -> Vec<(Pid, char)> {
    list(Path::new("/proc"))
        .into_iter()
        .filter_map(|process| {
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            let (state, from) = stat(pid)?;
            (from == parent.as_raw_nonzero().get()).then_some((Pid::from_raw(pid)?, state))
        })
        .collect()
}

/// The letter of a process' state, and its parent.
pub fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Starts a program that listens on a port of 127.0.0.1, and waits for a line of its output; all
/// the output, if it ends before. The port is one on which nothing listened a moment ago, so
/// another is tried when that was too long ago.
pub async fn start_on_free_port(
    ready: &str,
    mut command: impl FnMut(u16) -> Command,
) -> Result<(Process, u16), String> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = Process::start(command(port));
        match process.wait_for_line(ready).await {
            Ok(_) => return Ok((process, port)),
            Err(output) if output.contains("Address already in use") => (),
            Err(output) if output.contains("address already in use") => (),
            Err(output) => return Err(output),
        }
    }
}

/// A program that tests/support/install/daemons.sh has unpacked.
pub fn daemon(name: &str) -> PathBuf {
    installed(&deps().join("bin").join(name))
}

/// The path itself; panics with what to do where there is nothing.
pub fn installed(path: &Path) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: `make deps` installs what the tests run on",
        path.display()
    );
    path.to_owned()
}

/// The folder where the installers put their parts.
pub fn deps() -> &'static Path {
    static DEPS: OnceLock<PathBuf> = OnceLock::new();
    DEPS.get_or_init(|| {
        let common = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/install/common.sh"
        );
        let script = r#". "$0"; printf %s "$deps""#;
        let output = run(Command::new("sh").args(["-c", script, common]));
        String::from_utf8(output.stdout).unwrap().into()
    })
}
