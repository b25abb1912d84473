use super::*;
use tokio::net::TcpListener;
use zsync_pipelines::spec::parse;

fn spec(backends: &[u16], interval: &str) -> Spec {
    let backends: Vec<String> =
        backends.iter().map(|port| format!("{{ address = \"127.0.0.1\", port = {port} }}")).collect();
    let text = format!(
        "[port.wan]\nnetdev = \"eth0\"\n[pipeline.p]\ninput = [\"wan\"]\nstages = [\"balance.web\", \"route\"]\n\
         [balance.web]\nvip = [\"192.0.2.80\"]\nservice = [\"tcp/443\"]\nbackends = [{}]\n\
         health = {{ tcp = true, interval = \"{interval}\", timeout = \"100ms\", rise = 1, fall = 2 }}\n",
        backends.join(", ")
    );
    parse(&text, "test.toml").unwrap().spec
}

fn subjects(spec: &Spec) -> Vec<Subject> {
    let of = |(label, balance): (&str, &BalanceSpec)| {
        balance.backends.iter().map(|backend| (label.to_owned(), backend.identity())).collect::<Vec<_>>()
    };
    balances(spec).flat_map(of).collect()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Takes results in until one changes something.
async fn change(checks: &mut Checks) -> (Subject, bool) {
    loop {
        let outcome = checks.next().await;
        if let Some(change) = checks.note(outcome) {
            return change;
        }
    }
}

#[test]
fn a_backend_goes_down_when_it_stops_listening_and_comes_back() {
    block(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let end = listener.local_addr().unwrap();
        let spec = spec(&[end.port()], "100ms");
        let subject = subjects(&spec).remove(0);
        let mut checks = Checks::default();
        checks.follow(&spec, |_| Record::new(true, true));
        let first = checks.next().await;
        assert_eq!((first.subject.clone(), first.result.clone()), (subject.clone(), Ok(())));
        assert_eq!(checks.note(first), None);
        drop(listener);
        assert_eq!(change(&mut checks).await, (subject.clone(), false));
        assert_eq!(checks.last(&subject).unwrap().error.as_deref(), Some("connection refused"));
        let _listener = TcpListener::bind(end).await.unwrap();
        assert_eq!(change(&mut checks).await, (subject.clone(), true));
        assert_eq!(checks.is_up(&subject), Some(true));
    });
}

#[test]
fn a_new_configuration_keeps_what_is_known_and_ends_what_it_does_not_ask_for() {
    block(async {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (one, both) = (spec(&[closed], "100ms"), spec(&[closed, 1], "100ms"));
        let [first, second] = <[Subject; 2]>::try_from(subjects(&both)).unwrap();
        let mut checks = Checks::default();
        checks.follow(&both, |_| Record::new(true, true));
        while checks.is_up(&first) != Some(false) || checks.is_up(&second) != Some(false) {
            change(&mut checks).await;
        }
        checks.follow(&one, |_| panic!("it is known"));
        assert_eq!((checks.is_up(&first), checks.is_up(&second)), (Some(false), None));
        // Another interval is another check, of the same backend.
        checks.follow(&spec(&[closed], "200ms"), |_| panic!("it is known"));
        assert_eq!(checks.is_up(&first), Some(false));
        for _ in 0..3 {
            let outcome = checks.next().await;
            // What was on its way when its check ended changes nothing.
            assert!(outcome.subject == first || checks.note(outcome).is_none());
        }
    });
}
