//! What happens to servers and exporters, minute by minute.

/// The fault begins here, after a past in which all was as it should be.
pub const FAULT: usize = 60;

/// A row of the table.
pub struct Scenario {
    pub name: &'static str,
    /// Servers at the start; the first is the primary.
    pub servers: usize,
    /// What the minute makes of a world in which all is as it should be.
    pub play: fn(usize, &mut World),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Postgres {
    Primary,
    Standby,
    /// It follows nobody.
    Lonely,
    Down(&'static str),
}

#[derive(Clone)]
pub struct Server {
    pub name: String,
    pub cluster_name: String,
    pub system: &'static str,
    pub host: bool,
    pub postgres: Postgres,
    pub start: usize,
    pub timeline: usize,
}

/// One minute.
#[derive(Clone)]
pub struct World {
    pub servers: Vec<Server>,
    /// Prometheus reaches the exporters.
    pub reachable: bool,
    /// They run.
    pub exporters: bool,
    /// They serve something about servers.
    pub served: bool,
    /// They have been restarted, and do not know the clusters of servers that are down.
    pub forgotten: bool,
    pub job: &'static str,
    /// Added to the exporters' addresses.
    pub address: &'static str,
    /// Each server is watched by so many.
    pub watchers: usize,
    /// Each standby has a slot.
    pub slots: bool,
}

impl World {
    pub fn new(servers: usize) -> Self {
        let names = ["a", "b", "c", "d"];
        let server = |(place, name): (usize, &&str)| Server {
            name: (*name).to_owned(),
            cluster_name: "matrix".to_owned(),
            system: "7",
            host: true,
            postgres: if place == 0 {
                Postgres::Primary
            } else {
                Postgres::Standby
            },
            start: 1000 + place,
            timeline: 1,
        };
        Self {
            servers: names.iter().take(servers).enumerate().map(server).collect(),
            reachable: true,
            exporters: true,
            served: true,
            forgotten: false,
            job: "postgres",
            address: "",
            watchers: 1,
            slots: false,
        }
    }

    fn lose(&mut self, place: usize) {
        let server = &mut self.servers[place];
        server.host = false;
        server.postgres = Postgres::Down("timeout");
    }

    fn lose_all(&mut self) {
        (0..self.servers.len()).for_each(|place| self.lose(place));
    }

    fn stop(&mut self, place: usize, reason: &'static str) {
        self.servers[place].postgres = Postgres::Down(reason);
    }

    /// The others have nobody to follow.
    fn orphan(&mut self) {
        for server in &mut self.servers {
            if server.postgres == Postgres::Standby {
                server.postgres = Postgres::Lonely;
            }
        }
    }

    fn promote(&mut self, place: usize) {
        self.servers[place].postgres = Postgres::Primary;
        self.servers.iter_mut().for_each(|one| one.timeline = 2);
    }

    /// A copy of one server, restored from a backup of this cluster beside it.
    fn copy(&mut self) {
        self.servers.push(Server {
            name: "copy".to_owned(),
            cluster_name: "matrix-restored".to_owned(),
            system: "7",
            host: true,
            postgres: Postgres::Primary,
            start: 5000,
            timeline: 2,
        });
    }

    fn names_of_their_own(&mut self) {
        for server in &mut self.servers {
            server.cluster_name = format!("node-{}", server.name);
        }
    }
}

/// The rows of the table.
pub fn scenarios() -> Vec<Scenario> {
    let row = |servers, name, play| Scenario {
        name,
        servers,
        play,
    };
    vec![
        row(1, "1 server is stopped", |t, w| {
            if t >= FAULT {
                w.stop(0, "refused");
            }
        }),
        row(
            1,
            "1 server is stopped, and the exporter is restarted",
            |t, w| {
                if t >= FAULT {
                    w.stop(0, "refused");
                }
                restarted_later(t, w);
            },
        ),
        row(1, "1 server answers every other minute", |t, w| {
            if t >= FAULT && t % 2 == 0 {
                w.stop(0, "timeout");
            }
        }),
        row(1, "1 server, its host is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
            }
        }),
        row(2, "2 servers, the primary is stopped", |t, w| {
            if t >= FAULT {
                w.stop(0, "refused");
                w.orphan();
            }
        }),
        row(2, "2 servers, the host of the primary is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
                w.orphan();
            }
        }),
        row(
            2,
            "2 servers, the same, and the exporters are restarted",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                    w.orphan();
                }
                restarted_later(t, w);
            },
        ),
        row(
            2,
            "2 servers, the same, and the standby takes over",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(2, "2 servers, the host of the standby is lost", |t, w| {
            if t >= FAULT {
                w.lose(1);
            }
        }),
        row(
            2,
            "2 servers, the primary answers every other minute",
            |t, w| {
                if t >= FAULT && t % 2 == 0 {
                    w.stop(0, "timeout");
                }
            },
        ),
        row(
            2,
            "2 servers, a switch-over leaves both as standbys",
            |t, w| {
                if t >= FAULT {
                    w.servers[0].postgres = Postgres::Lonely;
                    w.orphan();
                }
            },
        ),
        row(
            2,
            "2 servers, the standby is cut off from the primary",
            |t, w| {
                if t >= FAULT {
                    w.orphan();
                }
            },
        ),
        row(2, "2 servers, both hosts are lost", |t, w| {
            if t >= FAULT {
                w.lose_all();
            }
        }),
        row(
            2,
            "2 servers, the standby is cut off, and the exporters are restarted",
            |t, w| {
                if t >= FAULT {
                    w.orphan();
                }
                restarted_later(t, w);
            },
        ),
        row(3, "3 servers, the host of the primary is lost", |t, w| {
            if t >= FAULT {
                w.lose(0);
                w.orphan();
            }
        }),
        row(
            3,
            "3 servers, the same, and a standby takes over",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(3, "3 servers, the host of a standby is lost", |t, w| {
            if t >= FAULT {
                w.lose(2);
            }
        }),
        row(
            3,
            "3 servers with slots, the host of a standby is lost",
            |t, w| {
                w.slots = true;
                if t >= FAULT {
                    w.lose(2);
                }
            },
        ),
        row(3, "3 servers, all hosts are lost", |t, w| {
            if t >= FAULT {
                w.lose_all();
            }
        }),
        row(
            1,
            "1 server, Prometheus is cut off from the exporter",
            |t, w| {
                w.reachable = t < FAULT;
            },
        ),
        row(
            3,
            "3 servers, Prometheus is cut off from the exporters",
            |t, w| {
                w.reachable = t < FAULT;
            },
        ),
        row(
            1,
            "1 server, the exporter answers and knows no server",
            |t, w| {
                w.served = t < FAULT;
            },
        ),
        row(1, "1 server, the password is refused", |t, w| {
            if t >= FAULT {
                w.stop(0, "authentication");
            }
        }),
        row(2, "2 servers, the password is refused", |t, w| {
            if t >= FAULT {
                w.stop(0, "authentication");
                w.stop(1, "authentication");
            }
        }),
        row(
            2,
            "2 servers with names of their own, the host of the primary is lost",
            |t, w| {
                w.names_of_their_own();
                if t >= FAULT {
                    w.lose(0);
                    w.orphan();
                }
            },
        ),
        row(
            2,
            "2 servers with names of their own, the standby takes over",
            |t, w| {
                w.names_of_their_own();
                if t >= FAULT {
                    w.lose(0);
                    w.promote(1);
                }
            },
        ),
        row(
            1,
            "1 server with two exporters, its host is lost",
            |t, w| {
                w.watchers = 2;
                if t >= FAULT {
                    w.lose(0);
                }
            },
        ),
        row(
            1,
            "1 server with a restored copy beside it, its host is lost",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                }
                if t >= 40 {
                    w.copy();
                }
            },
        ),
        row(
            3,
            "3 servers with a restored copy beside them, all hosts but that of the copy are lost",
            |t, w| {
                if t >= FAULT {
                    w.lose_all();
                }
                if t >= 40 {
                    w.copy();
                }
            },
        ),
        row(
            1,
            "1 server is lost, then a copy is restored in another place",
            |t, w| {
                if t >= FAULT {
                    w.lose(0);
                }
                if t >= FAULT + 20 {
                    w.copy();
                }
            },
        ),
        row(
            1,
            "1 server is restored in place, and stopped before its exporter knows it",
            |t, w| {
                if t >= FAULT {
                    w.servers[0].system = "8";
                    w.servers[0].start = 9000;
                }
                if t >= FAULT + 20 {
                    w.stop(0, "refused");
                    w.forgotten = true;
                }
            },
        ),
        row(
            2,
            "2 standbys of a primary that is not watched, one is stopped",
            |t, w| {
                w.servers[0].postgres = Postgres::Standby;
                if t >= FAULT {
                    w.stop(0, "refused");
                }
            },
        ),
        row(
            2,
            "2 standbys of a primary that is not watched, both hosts are lost",
            |t, w| {
                w.servers[0].postgres = Postgres::Standby;
                if t >= FAULT {
                    w.lose_all();
                }
            },
        ),
        row(1, "1 server is restarted within two minutes", |t, w| {
            if t >= FAULT {
                w.servers[0].start = 2000;
            }
            if (FAULT..FAULT + 2).contains(&t) {
                w.stop(0, "refused");
            }
        }),
        row(
            2,
            "2 servers, rolling update with a planned switch-over",
            rolling,
        ),
        row(
            3,
            "3 servers, rolling update with a planned switch-over",
            rolling,
        ),
        row(
            2,
            "2 servers with names of their own, planned switch-over",
            |t, w| {
                w.names_of_their_own();
                rolling(t, w);
            },
        ),
        row(3, "3 servers, scaled to 4 and back", scaled),
        row(3, "3 servers with slots, scaled to 4 and back", |t, w| {
            w.slots = true;
            scaled(t, w);
        }),
        row(2, "2 servers, a third is built for an hour", |t, w| {
            if t >= FAULT {
                w.servers = World::new(3).servers;
                w.stop(2, "refused");
                w.forgotten = true;
            }
        }),
        row(1, "1 server, the exporter is restarted", restarted),
        row(3, "3 servers, the exporters are restarted", restarted),
        row(1, "1 server, the exporter moves to another address", moved),
        row(3, "3 servers, the exporters move to other addresses", moved),
        row(1, "1 server, the job is renamed", renamed),
        row(3, "3 servers, the job is renamed", renamed),
        row(1, "1 server gets a second exporter", second_exporter),
        row(3, "3 servers get a second exporter", second_exporter),
        row(
            1,
            "1 server, a copy is restored beside it and removed again",
            copied,
        ),
        row(
            3,
            "3 servers, a copy is restored beside them and removed again",
            copied,
        ),
        row(1, "1 server becomes another by pg_upgrade", |t, w| {
            if t >= FAULT {
                w.servers[0].system = "8";
                w.servers[0].start = 9000;
            }
        }),
        row(1, "1 server gets another cluster_name", |t, w| {
            if t >= FAULT {
                w.servers[0].cluster_name = "chat".to_owned();
                w.servers[0].start = 9000;
            }
        }),
    ]
}

/// The standbys one after the other, then the primary, whose place the second takes.
fn rolling(t: usize, world: &mut World) {
    let count = world.servers.len();
    for place in 1..count {
        let from = FAULT + 3 * place;
        if t >= from {
            world.servers[place].start = 2000 + place;
        }
        if (from..from + 2).contains(&t) {
            world.stop(place, "refused");
        }
    }
    let switch = FAULT + 3 * count;
    if t >= switch {
        world.servers[0].postgres = Postgres::Standby;
        world.servers[0].start = 3000;
        world.promote(1);
    }
    if (switch..switch + 2).contains(&t) {
        world.stop(0, "shutting_down");
    }
}

fn scaled(t: usize, world: &mut World) {
    if (40..FAULT).contains(&t) {
        let mut fourth = World::new(4).servers.remove(3);
        fourth.start = 40;
        world.servers.push(fourth);
    }
}

fn restarted(t: usize, world: &mut World) {
    world.exporters = !(FAULT..FAULT + 2).contains(&t);
}

/// In the middle of an outage, and long after its alerts.
fn restarted_later(t: usize, world: &mut World) {
    let restart = FAULT + 30;
    world.exporters = !(restart..restart + 2).contains(&t);
    world.forgotten = t >= restart;
}

fn moved(t: usize, world: &mut World) {
    world.exporters = t != FAULT;
    if t >= FAULT {
        world.address = "-new";
    }
}

fn renamed(t: usize, world: &mut World) {
    if t >= FAULT {
        world.job = "matrix/postgres";
    }
}

fn second_exporter(t: usize, world: &mut World) {
    if t >= FAULT {
        world.watchers = 2;
    }
}

fn copied(t: usize, world: &mut World) {
    if (40..FAULT).contains(&t) {
        world.copy();
    }
}
