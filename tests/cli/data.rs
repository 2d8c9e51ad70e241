//! The programs' data: where it comes from, under which name, and what happens where there is none.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::cli::{evaluate, finish, listing, mask, succeed, train};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::tempdir;

const TINY: &str = "--train-images 4 --batch-size 2 --epochs 1 --peak-epoch 0 --width 1 --threads 1";
const MODEL: &str = "--model resnet9 --width 1 --weights run/final.safetensors --threads 1";

/// A machine without network and npm: a proxy where nobody listens.
fn cut_off(mut command: Command) -> Command {
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY"] {
        command.env_remove(name);
    }
    command.env("all_proxy", "http://127.0.0.1:9").env("PATH", "");
    command
}

/// Fails with one last line that holds all of `parts`, and leaves nothing behind.
#[track_caller]
fn refused(directory: &Path, mut command: Command, parts: &[&str]) {
    let before = listing(directory);
    let (code, out, err) = finish(command.output().unwrap());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{command:?}: {err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && parts.iter().all(|part| last.contains(part)), "{parts:?}: {err}");
    assert_eq!(listing(directory), before, "{command:?}");
}

#[test]
fn made_up_pictures_never_stand_for_data_that_was_asked_for() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    succeed(train(at, &format!("--data synthetic {TINY} --run-dir run")));
    fs::write(at.join("mine.toml"), "inherits = \"quick\"\n[data]\nset = \"cifar10\"\n").unwrap();
    let parts =
        ["no CIFAR-10 there", "cs.toronto.edu", "npm", "--data-dir", "--data-url", "--data synthetic"];
    for flags in [
        "--data cifar10",
        "--data-dir typo",
        "--data cifar10 --data-dir typo",
        "--set data.set=cifar10",
        "--recipe mine.toml",
    ] {
        refused(at, cut_off(train(at, &format!("{TINY} {flags} --run-dir new"))), &parts);
    }
    for flags in ["", "--data cifar10", "--data-dir typo"] {
        refused(at, cut_off(evaluate(at, &format!("{MODEL} {flags}"))), &parts);
        let flags = format!("{MODEL} {flags} --fisher-samples 2 --out mask.safetensors");
        refused(at, cut_off(mask(at, &flags)), &parts);
    }
}

#[test]
fn train_alone_falls_back_where_nothing_was_asked_for_and_says_so() {
    let directory = tempdir().unwrap();
    let (out, err) = succeed(cut_off(train(directory.path(), &format!("{TINY} --run-dir run"))));
    assert!(out.contains("synthetic (made-up pictures, not CIFAR-10)"), "{out}");
    let last = err.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("using the synthetic set instead of CIFAR-10: cannot download https://"),
        "{err}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a data folder was made for nothing");
}

#[test]
fn changed_data_is_named_so_wherever_it_is_used() {
    let directory = tempdir().unwrap();
    let folder = directory.path().join("data/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    {
        // Black pictures of label 0. The files have no blocks, so they cost nothing to make.
        File::create(folder.join(format!("{name}.bin"))).unwrap().set_len(30_730_000).unwrap();
    }
    let (out, _) = succeed(train(directory.path(), &format!("{TINY} --offline --no-verify --run-dir run")));
    assert!(out.contains("data     CIFAR-10 (changed) (not the published images or labels): 4 "), "{out}");
    assert!(out.lines().last().unwrap().contains("CIFAR-10 (changed)"), "{out}");
    for file in ["metrics.jsonl", "logs.tsv"] {
        let text = fs::read_to_string(directory.path().join("run").join(file)).unwrap();
        assert!(text.contains("CIFAR-10 (changed)"), "{text}");
    }
    let (out, _) = succeed(evaluate(directory.path(), &format!("{MODEL} --offline --no-verify")));
    assert!(out.starts_with("CIFAR-10 (changed), 10000 test images"), "{out}");
}

/// Listens, and answers each request with status 404: its address, and the first lines of all requests.
fn listen(tls: Option<rustls::ServerConfig>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(vec![])));
    let (log, tls) = (asked.clone(), tls.map(Arc::new));
    let answer = |stream: &mut dyn ReadWrite| -> std::io::Result<String> {
        let mut lines = BufReader::new(&mut *stream).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        stream.flush()?;
        Ok(first)
    };
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let first = match &tls {
                None => answer(&mut stream),
                Some(config) => {
                    let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                    answer(&mut rustls::StreamOwned::new(connection, stream))
                }
            };
            // A client that does not trust the certificate hangs up.
            log.lock().unwrap().extend(first);
        }
    });
    (address, asked)
}

trait ReadWrite: std::io::Read + Write {}
impl<T: std::io::Read + Write> ReadWrite for T {}

#[test]
fn a_proxy_is_asked_unless_the_host_is_named_as_one_without() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let ((proxy, through), (server, direct)) = (listen(None), listen(None));
    let command = |no_proxy: &str| {
        let flags = format!("{TINY} --data-dir typo --data-url http://{server}/x.tar.gz");
        let mut command = cut_off(train(at, &flags));
        command.env("all_proxy", format!("http://{proxy}")).env("NO_PROXY", no_proxy);
        command
    };
    refused(at, command(""), &[&server]);
    let publisher = "CONNECT www.cs.toronto.edu:443 HTTP/1.1".to_string();
    let taken = |asked: &Mutex<Vec<String>>| std::mem::take(&mut *asked.lock().unwrap());
    assert_eq!(taken(&through), [format!("CONNECT {server} HTTP/1.1"), publisher.clone()]);
    assert_eq!(taken(&direct), [""; 0]);
    refused(at, command("localhost,127.0.0.0/8"), &["status 404"]);
    assert_eq!((taken(&through), taken(&direct)), (vec![publisher], vec!["GET /x.tar.gz HTTP/1.1".into()]));
}

#[test]
fn certificates_of_the_environment_are_trusted() {
    let directory = tempdir().unwrap();
    let at = directory.path();
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/tls");
    let certificate = CertificateDer::from_pem_file(tls.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let (server, asked) = listen(Some(config));
    let command = |certificates: &Path| {
        let flags = format!("{TINY} --data-dir typo --data-url https://{server}/x.tar.gz");
        let mut command = cut_off(train(at, &flags));
        command.env("NO_PROXY", "127.0.0.1").env_remove("SSL_CERT_DIR");
        command.env("SSL_CERT_FILE", certificates);
        command
    };
    refused(at, command(&tls.join("authority.pem")), &["status 404"]);
    assert_eq!(*asked.lock().unwrap(), ["GET /x.tar.gz HTTP/1.1"]);
    refused(at, command(Path::new("absent.pem")), &["SSL_CERT_FILE: no certificates in absent.pem"]);
    let mut system = command(Path::new(""));
    system.env_remove("SSL_CERT_FILE");
    refused(at, system, &["certificate"]);
    assert_eq!(asked.lock().unwrap().len(), 1);
}
