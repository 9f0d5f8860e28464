//! A real etcd of one or three members, and what can befall it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::programs;
use crate::sandbox::Sandbox;
use crate::wait::{and_tell, wait_for_ok};

const READY: Duration = Duration::from_secs(60);

/// The keys of what fills an etcd.
const FILLING: &str = "/filling/";

/// How an [`Etcd`] is started.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// How many members; none means one.
    pub members: usize,
    /// Certificates: with them clients must speak TLS and show a certificate of the same authority.
    pub tls: Option<EtcdTls>,
    /// How many bytes a member may hold before it takes no more; none means etcd's own limit.
    pub quota: Option<u64>,
}

/// PEM files.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The authority that signed the other two.
    pub ca: PathBuf,
    /// The certificate of servers and of `etcdctl`, for 127.0.0.1.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An etcd on free ports. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    tls: Option<EtcdTls>,
    sandbox: Sandbox,
}

#[derive(Debug)]
struct Member {
    name: String,
    process: Process,
    data: PathBuf,
    client: Port,
    peer: Port,
}

impl Etcd {
    /// Starts one member and waits until it leads.
    pub async fn start() -> Result<Self> {
        Self::start_with(EtcdOptions::default()).await
    }

    /// Starts the members and waits until they have a leader.
    pub async fn start_with(options: EtcdOptions) -> Result<Self> {
        let program =
            programs::on_path("etcd").context("no etcd on PATH; cargo xtask servers installs it")?;
        let sandbox = Sandbox::new("etcd")?;
        let ports = (0..options.members.max(1))
            .map(|_| Ok((Port::reserve()?, Port::reserve()?)))
            .collect::<Result<Vec<_>>>()?;
        let peers: Vec<u16> = ports.iter().map(|(_, peer)| peer.number()).collect();
        let mut members = Vec::new();
        for (number, (client, peer)) in ports.into_iter().enumerate() {
            let (name, data) = (member_name(number), sandbox.path().join(format!("data-{number}")));
            let launch = Launch::new(&name, &program)
                .args(["--logger", "zap", "--log-level", "warn", "--enable-v2=false"])
                .arg("--data-dir")
                .arg(&data)
                .args(client_args(&client, options.tls.as_ref()))
                .args(["--listen-peer-urls", &peer_url(peer.number())])
                .args(identity(number, &peers))
                .args(["--initial-cluster-state", "new", "--heartbeat-interval", "100"])
                .args(["--election-timeout", "1000"])
                .args(options.quota.map(|bytes| format!("--quota-backend-bytes={bytes}")));
            let process = Process::spawn(&sandbox, launch)?;
            members.push(Member { name, process, data, client, peer });
        }
        let server = Self { members, tls: options.tls, sandbox };
        server.wait_ready().await?;
        Ok(server)
    }

    /// `http://127.0.0.1:port` of the first member.
    pub fn endpoint(&self) -> String {
        self.url(&self.members[0])
    }

    /// The same of every member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member)).collect()
    }

    /// The process of the first member: kill, pause, resume, log.
    pub fn process(&self) -> &Process {
        self.member(0)
    }

    /// The process of a member, counted from 0.
    pub fn member(&self, number: usize) -> &Process {
        &self.members[number].process
    }

    /// SIGKILL to all members.
    pub fn kill_all(&self) {
        self.members.iter().for_each(|member| member.process.kill9());
    }

    /// SIGSTOP to all members: silent, but their connections stay.
    pub fn pause_all(&self) {
        self.members.iter().for_each(|member| member.process.pause());
    }

    /// SIGCONT after [`Etcd::pause_all`].
    pub fn resume_all(&self) {
        self.members.iter().for_each(|member| member.process.resume());
    }

    /// Starts all members again on the same ports and data, killing those that run.
    pub async fn restart(&self) -> Result<()> {
        self.kill_all();
        self.start_again().await
    }

    /// Starts one member again after it was killed.
    pub async fn restart_member(&self, number: usize) -> Result<()> {
        self.member(number).kill9();
        self.member(number).start_again()?;
        self.wait_ready().await
    }

    /// Loses everything: kills all members, removes their data, starts them again, empty, on the same ports.
    pub async fn wipe(&self) -> Result<()> {
        self.remove_data()?;
        self.start_again().await
    }

    /// Writes a snapshot of everything to a file.
    pub async fn save(&self, name: &str) -> Result<PathBuf> {
        let file = self.sandbox.path().join(name);
        // A snapshot is taken from one member.
        let mut command = self.command(&[self.endpoint()])?;
        run(command.args(["snapshot", "save"]).arg(&file)).await?;
        Ok(file)
    }

    /// Back to a snapshot: kills all members, restores their data from the file, starts them on the same ports.
    pub async fn restore(&self, snapshot: &Path) -> Result<()> {
        self.remove_data()?;
        let peers: Vec<u16> = self.members.iter().map(|member| member.peer.number()).collect();
        for (number, member) in self.members.iter().enumerate() {
            let mut command = self.command(&[])?;
            let command = command.args(["snapshot", "restore"]).arg(snapshot);
            run(command.args(identity(number, &peers)).arg("--data-dir").arg(&member.data)).await?;
        }
        self.start_again().await
    }

    /// Runs `etcdctl` against all members and returns what it prints.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        run(self.command(&self.endpoints())?.args(args)).await
    }

    /// Writes until there is no room left; see [`EtcdOptions::quota`].
    pub async fn fill(&self) -> Result<()> {
        let much = "x".repeat(100_000);
        for number in 0..100 {
            match self.ctl(&["put", &format!("{FILLING}{number}"), &much]).await {
                Ok(_) => {}
                Err(full) if full.to_string().contains("database space exceeded") => return Ok(()),
                Err(other) => return Err(other),
            }
        }
        bail!("there is always room: start it with a quota")
    }

    /// What an operator does then: removes what is not needed, also its history, gives the room back, ends the alarm.
    pub async fn make_room(&self) -> Result<()> {
        self.ctl(&["del", "--prefix", FILLING]).await?;
        self.compact().await?;
        self.ctl(&["alarm", "disarm"]).await.map(drop)
    }

    /// Forgets all revisions but the newest, and gives their room back.
    pub async fn compact(&self) -> Result<()> {
        let found = self.ctl(&["get", FILLING, "--write-out=fields"]).await?;
        let revision = found.lines().find_map(|line| line.strip_prefix("\"Revision\" : "));
        self.ctl(&["compaction", "--physical", revision.context("no revision")?]).await?;
        self.ctl(&["defrag"]).await.map(drop)
    }

    /// Which member leads, counted from 0.
    pub async fn leader(&self) -> Result<usize> {
        for (number, member) in self.members.iter().enumerate() {
            let mut command = self.command(&[self.url(member)])?;
            // The fields are: endpoint, id, version, size, whether it leads, …
            let status = run(command.args(["endpoint", "status"])).await.unwrap_or_default();
            if status.split(',').nth(4).is_some_and(|leads| leads.trim() == "true") {
                return Ok(number);
            }
        }
        bail!("no member of {:?} leads", self.endpoints())
    }

    fn url(&self, member: &Member) -> String {
        client_url(&member.client, self.tls.as_ref())
    }

    fn command(&self, endpoints: &[String]) -> Result<Command> {
        let program =
            programs::on_path("etcdctl").context("no etcdctl on PATH; cargo xtask servers installs it")?;
        let mut command = Command::new(program);
        command.env("ETCDCTL_API", "3").kill_on_drop(true);
        if !endpoints.is_empty() {
            command.args(["--command-timeout", "5s", "--endpoints", &endpoints.join(",")]);
        }
        if let (Some(tls), false) = (&self.tls, endpoints.is_empty()) {
            command.arg("--cacert").arg(&tls.ca).arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        }
        Ok(command)
    }

    fn remove_data(&self) -> Result<()> {
        self.kill_all();
        self.members.iter().try_for_each(|member| {
            std::fs::remove_dir_all(&member.data)
                .with_context(|| format!("cannot remove {}", member.data.display()))
        })
    }

    async fn start_again(&self) -> Result<()> {
        self.members.iter().try_for_each(|member| member.process.start_again())?;
        self.wait_ready().await
    }

    /// Every running member knows a leader that a majority follows.
    async fn wait_ready(&self) -> Result<()> {
        for member in self.members.iter().filter(|member| member.process.is_running()) {
            let healthy = async || {
                let health = run(self.command(&[self.url(member)])?.args(["endpoint", "health"])).await;
                match health {
                    // With passwords only the first step of the check is open to strangers, and it was passed.
                    Err(error) if error.to_string().contains("user name is empty") => Ok(String::new()),
                    health => health,
                }
            };
            let ready = wait_for_ok(&format!("{} to be healthy", member.name), READY, healthy).await;
            and_tell(ready, || member.process.log_tail(20))?;
        }
        Ok(())
    }
}

fn member_name(number: usize) -> String {
    format!("etcd-{number}")
}

fn peer_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn client_url(port: &Port, tls: Option<&EtcdTls>) -> String {
    let scheme = if tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", port.address())
}

fn client_args(port: &Port, tls: Option<&EtcdTls>) -> Vec<String> {
    let url = client_url(port, tls);
    let mut args = vec!["--listen-client-urls".into(), url.clone(), "--advertise-client-urls".into(), url];
    if let Some(tls) = tls {
        let file = |path: &Path| path.display().to_string();
        args.extend(["--client-cert-auth".into(), "--trusted-ca-file".into(), file(&tls.ca)]);
        args.extend(["--cert-file".into(), file(&tls.cert), "--key-file".into(), file(&tls.key)]);
    }
    args
}

/// The arguments that say who a member is, and who the others are: for the server, and for restoring its data.
fn identity(number: usize, peers: &[u16]) -> [String; 6] {
    let cluster: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(number, port)| format!("{}={}", member_name(number), peer_url(*port)))
        .collect();
    [
        "--name".into(),
        member_name(number),
        "--initial-advertise-peer-urls".into(),
        peer_url(peers[number]),
        "--initial-cluster".into(),
        cluster.join(","),
    ]
}

async fn run(command: &mut Command) -> Result<String> {
    let output = command.output().await.context("cannot start etcdctl")?;
    if !output.status.success() {
        bail!("etcdctl: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
