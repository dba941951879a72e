//! The objects for Kubernetes, against its schemas, those of the Prometheus operator, and one
//! another.

use std::fmt::Write;
use std::fs;

use serde_json::Value;

use super::support::postgres::{Postgres, password};
use super::support::process::{User, command, deps, run, scratch};
use super::support::roles::Role;
use super::{assert_sees_everything, checker, deployed, moved, project, tool, yaml};

/// The oldest and the newest Kubernetes that the objects are checked for.
const VERSIONS: [&str; 2] = ["1.25", "1.37"];

#[test]
fn the_schemas_of_kubernetes_hold() {
    let folder = scratch();
    let built = folder.path().join("built.yaml");
    fs::write(&built, kustomize()).unwrap();
    for version in VERSIONS {
        let mut check = checker("bin/kubernetes-validate");
        check
            .args(["--strict", "--kubernetes-version", version])
            .arg(&built)
            .arg(project("deploy/kubernetes/secret.example.yaml"));
        let output = run(&mut check);
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        for object in [
            "configmap",
            "deployment",
            "networkpolicy",
            "secret",
            "service",
        ] {
            let passed = format!("passed for resource {object}/matrix-postgres-exporter");
            assert!(said.contains(&passed), "{version}: {object}: {said}");
        }
    }
}

/// The types know every field, the models how its value is written.
#[test]
fn the_schemas_of_the_prometheus_operator_hold() {
    let models = deps().join("deploy/node_modules/@kubernetes-models/prometheus-operator");
    let mut program = String::new();
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let model = models.join(format!("monitoring.coreos.com/v1/{kind}.js"));
        let of_kind = objects(kind);
        assert!(!of_kind.is_empty(), "there is no {kind}");
        writeln!(
            program,
            "import {{ {kind} }} from {:?};",
            model.display().to_string()
        )
        .unwrap();
        for mut object in of_kind {
            assert_eq!(object["apiVersion"], "monitoring.coreos.com/v1");
            let fields = object.as_object_mut().unwrap();
            fields.retain(|name, _| name != "apiVersion" && name != "kind");
            writeln!(program, "new {kind}({object}).validate();").unwrap();
        }
    }
    let folder = scratch();
    let source = folder.path().join("objects.mts");
    fs::write(&source, program).unwrap();
    let mut compile = command(User::Same, "node");
    compile
        .arg(deps().join("deploy/node_modules/typescript/bin/tsc"))
        .args([
            "--module",
            "nodenext",
            "--target",
            "es2022",
            "--skipLibCheck",
        ])
        .arg(&source);
    run(&mut compile);
    run(command(User::Same, "node").arg(source.with_extension("mjs")));
}

#[test]
fn the_pod_meets_the_restricted_standard() {
    let deployment = object("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_ne!(pod["securityContext"]["runAsUser"], 0);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(pod["automountServiceAccountToken"], false);
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[shared].is_null(), "{shared}");
    }
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(
            security["capabilities"],
            serde_json::json!({ "drop": ["ALL"] })
        );
        assert!(security["privileged"].is_null());
        assert!(container["ports"][0]["hostPort"].is_null());
    }
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(
            volume["configMap"].is_object() || volume["secret"].is_object(),
            "{volume}"
        );
    }
}

/// Labels select and ports name what is there.
#[test]
fn the_objects_fit_together() {
    let pod = &object("Deployment")["spec"]["template"];
    let service = object("Service");
    let monitor = object("ServiceMonitor");
    let policy = object("NetworkPolicy");

    let port = &pod["spec"]["containers"][0]["ports"][0]["name"];
    assert_eq!(service["spec"]["ports"][0]["targetPort"], *port);
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], *port);
    let probes = &pod["spec"]["containers"][0];
    for (probe, path) in [
        ("livenessProbe", "/-/healthy"),
        ("readinessProbe", "/-/ready"),
    ] {
        assert_eq!(probes[probe]["httpGet"]["port"], *port);
        assert_eq!(probes[probe]["httpGet"]["path"], path);
    }
    let name = &service["spec"]["ports"][0]["name"];
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], *name);

    let labels = &pod["metadata"]["labels"];
    assert_eq!(service["spec"]["selector"], *labels);
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], *labels);
    assert_eq!(
        monitor["spec"]["selector"]["matchLabels"],
        service["metadata"]["labels"]
    );

    let secret: Value = yaml(&deployed("kubernetes/secret.example.yaml")).remove(0);
    assert_eq!(
        pod["spec"]["volumes"][1]["secret"]["secretName"],
        secret["metadata"]["name"]
    );
    let mounted = pod["spec"]["containers"][0]["volumeMounts"][1]["mountPath"].as_str();
    let config = deployed("kubernetes/exporter.yaml");
    for key in secret["stringData"].as_object().unwrap().keys() {
        let file = format!("password_file: {}/{key}", mounted.unwrap());
        assert!(config.contains(&file), "{file}");
    }
}

#[tokio::test]
async fn its_configuration_is_enough() {
    let server = Postgres::start(18).await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let secrets = scratch();
    fs::write(secrets.path().join("password"), password("exporter")).unwrap();
    let address = format!("host=127.0.0.1 port={}", server.port());
    assert_sees_everything(&moved(
        "kubernetes/exporter.yaml",
        &[
            ("host=matrix-postgres", &address),
            (
                "/run/secrets/matrix-postgres-exporter",
                &secrets.path().display().to_string(),
            ),
        ],
    ));
}

/// What kustomize makes of the folder.
fn kustomize() -> String {
    let mut build = tool("kubectl");
    build.arg("kustomize").arg(project("deploy/kubernetes"));
    String::from_utf8(run(&mut build).stdout).unwrap()
}

fn objects(kind: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = yaml(&kustomize());
    objects.retain(|object| object["kind"] == kind);
    objects
}

fn object(kind: &str) -> Value {
    let mut objects = objects(kind);
    assert_eq!(objects.len(), 1, "{kind}");
    objects.remove(0)
}
