//! containerd, as far as services need it: containers without images, and their tasks.
//!
//! No snapshots: the root file system is the bundle's own, which init's image holds. Every
//! call survives a restart of containerd: the channel connects anew, and what was waited for
//! is looked up again.

use std::time::Duration;

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest, KillRequest,
    StartRequest, WaitRequest,
};
use containerd_client::tonic::{Code, Request, Status as Refusal};
use containerd_client::types::v1::Status;
use containerd_client::{Client, with_namespace};
use moby_bundle::path;
use moby_init::error::{Error, Result};
use prost_types::Any;

/// The pause before containerd is asked again while it is away.
const AWAY: Duration = Duration::from_millis(50);

/// The runtime shim that containerd starts.
const RUNTIME: &str = "io.containerd.runc.v2";

/// A connection, in one namespace.
pub(crate) struct Containerd {
    client: Client,
    namespace: String,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// There is none.
    None,
    /// It runs as this process.
    Running(u32),
    /// It ended with this code.
    Ended(u32),
}

/// Tells whether containerd is away rather than unwilling.
fn away(refusal: &Refusal) -> bool {
    matches!(refusal.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
        && (refusal.message().contains("transport")
            || refusal.message().contains("connect")
            || refusal.code() == Code::Unavailable)
}

fn fail(doing: &'static str, id: &str) -> impl Fn(Refusal) -> Error {
    move |refusal| Error::text(doing, id, refusal.message())
}

impl Containerd {
    /// Connects as soon as containerd answers, however long that takes.
    pub(crate) async fn connect(namespace: &str) -> Self {
        let namespace = if namespace.is_empty() { path::CONTAINERD_NAMESPACE } else { namespace };
        loop {
            if let Ok(client) = Client::from_path(path::CONTAINERD_SOCKET).await {
                let connected = Self { client, namespace: namespace.to_owned() };
                connected.present().await;
                return connected;
            }
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Waits until containerd answers.
    pub(crate) async fn present(&self) {
        while self.client.version().version(()).await.is_err() {
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Creates the container and its task, ready to be started; gives the task's process.
    pub(crate) async fn create(&self, id: &str, spec: Vec<u8>, log: &str) -> Result<u32> {
        let runtime = Runtime { name: RUNTIME.to_owned(), options: Some(options()) };
        let container = Container {
            id: id.to_owned(),
            runtime: Some(runtime),
            spec: Some(Any {
                type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned(),
                value: spec,
            }),
            ..Container::default()
        };
        let request = CreateContainerRequest { container: Some(container) };
        let request = with_namespace!(request, self.namespace);
        self.client
            .containers()
            .create(request)
            .await
            .map_err(fail("creating the container", id))?;
        let url = format!("file://{log}");
        let request = CreateTaskRequest {
            container_id: id.to_owned(),
            stdout: url.clone(),
            stderr: url,
            ..CreateTaskRequest::default()
        };
        let request = with_namespace!(request, self.namespace);
        let task =
            self.client.tasks().create(request).await.map_err(fail("creating the task", id))?;
        Ok(task.into_inner().pid)
    }

    /// Starts what was created.
    pub(crate) async fn start(&self, id: &str, exec: &str) -> Result<()> {
        let request = StartRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let request = with_namespace!(request, self.namespace);
        self.client.tasks().start(request).await.map_err(fail("starting the task", id)).map(drop)
    }

    /// Looks a task up, waiting while containerd is away.
    pub(crate) async fn task(&self, id: &str) -> Result<Task> {
        loop {
            let request = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
            match self.client.tasks().get(with_namespace!(request, self.namespace)).await {
                Ok(answer) => {
                    let Some(process) = answer.into_inner().process else { return Ok(Task::None) };
                    let ended = process.status() == Status::Stopped;
                    return Ok(if ended {
                        Task::Ended(process.exit_status)
                    } else {
                        Task::Running(process.pid)
                    });
                }
                Err(refusal) if refusal.code() == Code::NotFound => return Ok(Task::None),
                Err(refusal) if away(&refusal) => {
                    tokio::time::sleep(AWAY).await;
                    self.present().await;
                }
                Err(refusal) => return Err(fail("looking up the task", id)(refusal)),
            }
        }
    }

    /// Waits for the end of a task and gives its exit code. Where containerd goes away
    /// meanwhile, its answer is lost: then the task is looked up and waited for again.
    pub(crate) async fn wait(&self, id: &str, exec: &str) -> Result<u32> {
        loop {
            let request = WaitRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
            match self.client.tasks().wait(with_namespace!(request, self.namespace)).await {
                Ok(answer) => return Ok(answer.into_inner().exit_status),
                Err(refusal) if refusal.code() == Code::NotFound => {
                    return Err(fail("waiting for the task", id)(refusal));
                }
                Err(refusal) if !exec.is_empty() => return Err(fail("waiting for", exec)(refusal)),
                Err(_) => tokio::time::sleep(AWAY).await,
            }
            match self.task(id).await? {
                Task::Running(_) => {}
                Task::Ended(code) => return Ok(code),
                Task::None => return Err(Error::text("waiting for the task", id, "it is gone")),
            }
        }
    }

    /// Sends a signal to a task, to all of its processes with `all`; one that has just ended
    /// needs none.
    pub(crate) async fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let signal = u32::try_from(signal).expect("signals are positive");
        let request =
            KillRequest { container_id: id.to_owned(), signal, all, ..KillRequest::default() };
        match self.client.tasks().kill(with_namespace!(request, self.namespace)).await {
            Err(refusal) if refusal.code() != Code::NotFound => {
                Err(fail("signalling the task", id)(refusal))
            }
            _ => Ok(()),
        }
    }

    /// Takes task and container away; what is not there is as wished.
    pub(crate) async fn delete(&self, id: &str) -> Result<()> {
        let gone = |refusal: &Refusal| refusal.code() == Code::NotFound;
        let request = DeleteTaskRequest { container_id: id.to_owned() };
        match self.client.tasks().delete(with_namespace!(request, self.namespace)).await {
            Err(refusal) if !gone(&refusal) => return Err(fail("deleting the task", id)(refusal)),
            _ => {}
        }
        let request = DeleteContainerRequest { id: id.to_owned() };
        match self.client.containers().delete(with_namespace!(request, self.namespace)).await {
            Err(refusal) if !gone(&refusal) => Err(fail("deleting the container", id)(refusal)),
            _ => Ok(()),
        }
    }

    /// Runs a further process in a task to its end; gives its exit code.
    pub(crate) async fn exec(&self, id: &str, exec: &str, process: Vec<u8>) -> Result<u32> {
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".to_owned(),
            value: process,
        };
        let request = ExecProcessRequest {
            container_id: id.to_owned(),
            exec_id: exec.to_owned(),
            spec: Some(spec),
            ..ExecProcessRequest::default()
        };
        let request = with_namespace!(request, self.namespace);
        self.client.tasks().exec(request).await.map_err(fail("making a process in", id))?;
        let code = match self.start(id, exec).await {
            Ok(()) => self.wait(id, exec).await,
            Err(error) => Err(error),
        };
        let request =
            DeleteProcessRequest { container_id: id.to_owned(), exec_id: exec.to_owned() };
        let deleted =
            self.client.tasks().delete_process(with_namespace!(request, self.namespace)).await;
        let code = code?;
        deleted.map_err(fail("deleting a process in", id))?;
        Ok(code)
    }
}

/// Makes `containerd.runc.v1.Options` with nothing but `root` (field 7, a string): containerds
/// that share a namespace name and ids would clear away one another's state otherwise.
fn options() -> Any {
    let root = path::SERVICE_RUNC_ROOT.as_bytes();
    let mut value = vec![7 << 3 | 2, u8::try_from(root.len()).expect("the path is short")];
    value.extend_from_slice(root);
    Any { type_url: "containerd.runc.v1.Options".to_owned(), value }
}
