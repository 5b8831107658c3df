//! Containers that can not be, alone or together.

use expect_test::expect;

use crate::{check, lines, web};

#[test]
fn keys_that_are_not_supported_yet() {
    lines(
        "containers:\n  a:\n    build: .\n    idle: 10m\n    basic_auth: x\n    network_mode: host\n    deploy: { replicas: 2 }\n    profiles: [a]\n    secrets: [a]\n    configs: [a]\n    container_name: a\n    tty: true\nsecrets: {}\nconfigs: {}\nnetworks:\n  n: { external: true }\nvolumes:\n  v: { driver: nfs }\n",
        expect![[r#"
            line 3, column 5: `build` is not supported yet (build the image with another tool and `linkspan load` it)
            line 4, column 5: `idle` is not supported yet
            line 5, column 5: `basic_auth` is not supported yet
            line 7, column 5: `deploy` is not supported yet (`replicas`, `cpus` and `mem_limit` are keys of the container itself)
            line 8, column 5: `profiles` is not supported yet
            line 9, column 5: `secrets` is not supported yet
            line 10, column 5: `configs` is not supported yet
            line 11, column 5: `container_name` is not supported yet (the key is its name, and other containers reach it by that; for more names use `networks: { default: { aliases: […] } }`)
            line 12, column 5: `tty` is not supported yet
            line 13, column 1: `secrets` is not supported yet
            line 14, column 1: `configs` is not supported yet
            line 18, column 16: driver `nfs` is not supported yet (only `local` is)
        "#]],
    );
}

#[test]
fn two_containers_on_one_host_port() {
    check(
        "containers:\n  a: { image: nginx, ports: [\"8080:80\"] }\n  b:\n    image: nginx\n    ports: [\"8080:81\", \"0.0.0.0:9090:1\", \"8080:80/udp\"]\n  c: { image: nginx, ports: [\"9090:1\", \"[::1]:8080:80\"] }\n",
        expect![[r#"
            error: host port `127.0.0.1:8080/tcp` is already published by container `a`
             --> /srv/shop/linkspan.yaml:5:13
              |
            5 |     ports: ["8080:81", "0.0.0.0:9090:1", "8080:80/udp"]
              |             ^^^^^^^^^
             ::: line 2
              |
            2 |   a: { image: nginx, ports: ["8080:80"] }
              |                              ^^^^^^^^^ published here
              = help: give one of them another host port

            error: host port `127.0.0.1:9090/tcp` is already published by container `b` (on 0.0.0.0)
             --> /srv/shop/linkspan.yaml:6:30
              |
            6 |   c: { image: nginx, ports: ["9090:1", "[::1]:8080:80"] }
              |                              ^^^^^^^^
             ::: line 5
              |
            5 |     ports: ["8080:81", "0.0.0.0:9090:1", "8080:80/udp"]
              |                        ^^^^^^^^^^^^^^^^ published here
              = help: give one of them another host port
        "#]],
    );
}

#[test]
fn replicas_that_can_not_share() {
    lines(
        "containers:\n  a:\n    image: nginx\n    replicas: 2\n    ports: [\"0.0.0.0:80:80\", \"8080:80\"]\n    networks: { n: { ipv4_address: 10.9.0.5 } }\n  b: { image: nginx, replicas: 1001 }\nnetworks: { n: { subnet: 10.9.0.0/24 } }\n",
        expect![[r#"
            line 5, column 13: 2 replicas of `a` can't share host port `0.0.0.0:80/tcp` (publish it on 127.0.0.1, which is shared among them, or reach it by a route)
            line 6, column 36: 2 replicas of `a` can't share the address `10.9.0.5`
            line 7, column 32: `replicas` must be from 0 to 1000, not 1001
        "#]],
    );
}

#[test]
fn values_that_are_wrong() {
    lines(
        &web(
            "command: sh -c 'a\nworking_dir: srv\nuser: a b\nports: [80/sctp, localhost:80:80, 1-2:3-5, \"::1:80:80\"]\nrestart: alway\nstop_signal: SIGTREM\nstop_grace_period: 10\nmem_limit: 512\ncpus: lots\npids_limit: x\nulimits: { nofiles: 1, core: { soft: 2, hard: 1 } }\nsysctls: { vm.swappiness: 1, net.a/b: 1 }\ncap_add: [NET_ADMIM, CAP_SYS_TIME]\nsecurity_opt: [apparmor=x, foo]\nuserns_mode: keep-id\ndns: [dns.example.com]\nextra_hosts: [a, b=c]\ninit: 5\nlabels: [a=1, a=2]\nhealthcheck: { test: [curl, x], interval: 0s, retries: 0 }\nenv_file: [missing.env, { path: m.env, required: false }]\nenvironment: { A: [b] }",
        ),
        expect![[r#"
            line 4, column 14: `command` can't be split into words: a quote ' is not closed (or write it as a list: `[program, argument]`)
            line 5, column 18: `working_dir` must be an absolute path inside the container
            line 6, column 11: `user` must be `name` or `uid`, with `:group` or `:gid` if you like, not `a b`
            line 7, column 13: SCTP can't be published on 127.0.0.1 (only TCP and UDP are forwarded on loopback; name another address of this host, or `0.0.0.0`)
            line 7, column 22: `localhost` is no address (write `127.0.0.1`)
            line 7, column 39: 2 ports on the host can't be 3 ports inside (both ranges must be of one length)
            line 7, column 48: `::1:80:80` is no port (write an IPv6 address in brackets: `[::1]:8080:80`)
            line 8, column 14: `restart` can't be `alway` (did you mean `always`?)
            line 9, column 18: `SIGTREM` is no signal (did you mean `SIGTERM`?)
            line 10, column 24: `stop_grace_period` has no unit: write `30s` or `1m30s`
            line 11, column 16: `mem_limit` is less than 6m, with which nothing starts: is the unit missing?
            line 12, column 11: `cpus` must be a number of cores such as `0.5` or `2`
            line 13, column 17: `pids_limit` must be a whole number from -1 to 4194304, not `x`
            line 14, column 16: `nofiles` is no ulimit (did you mean `nofile`?)
            line 14, column 34: ulimit `core` has a soft limit above its hard one
            line 15, column 31: kernel parameter `vm.swappiness` is not namespaced: it would change the host (`net.*`, `fs.mqueue.*`, and of `kernel.*` the `msg…`, `sem` and `shm…` are; set others on the host)
            line 15, column 43: `net.a/b` is no name of a kernel parameter
            line 16, column 15: `NET_ADMIM` is no capability (did you mean `NET_ADMIN`?)
            line 17, column 20: security option `apparmor=x` is not supported yet (`no-new-privileges:false` and `seccomp=unconfined` are)
            line 17, column 32: `foo` is no security option (`no-new-privileges`, `no-new-privileges:false` or `seccomp=unconfined`)
            line 18, column 18: `userns_mode` can't be `keep-id` (only `host`; without the key, the container has ids of its own)
            line 19, column 11: name server `dns.example.com` is no address (such as `9.9.9.9`)
            line 20, column 19: `a` has no address (write `name=address`)
            line 20, column 22: `c` is no address (an address, or `host-gateway`)
            line 21, column 11: `init` must be `true` or `false`
            line 22, column 19: `a` is twice in `labels`
            line 23, column 27: a list in `test` begins with `CMD`, not `curl` (`[CMD, program, argument]`, `[CMD-SHELL, command]` or `[NONE]`)
            line 24, column 16: `env_file` `missing.env` isn't there (it is sought from the folder of this file; `{ path: …, required: false }` lets it be missing)
            line 25, column 23: `A` in `environment` must be text, not a list
        "#]],
    );
    lines(
        "containers:\n  a:\n  b: {}\n  c: { image: }\n  d: { image: Nginx }\n  e: { image: 'a b' }\n",
        expect![[r#"
            line 2, column 3: container `a` is empty (it needs at least `image:`)
            line 3, column 3: container `b` has no `image` (write `image: name:tag`)
            line 4, column 8: `image` has no value (give it one, or remove the line)
            line 5, column 15: `image` `Nginx` has capital letters, which names of images may not (did you mean `nginx`?)
            line 6, column 15: `image` `a b` is no name of an image (such as `nginx`, `nginx:1.27` or `ghcr.io/acme/shop:1.4`)
        "#]],
    );
}

#[test]
fn mounts_that_are_wrong() {
    lines(
        &web(
            "volumes:\n  - /data\n  - ~/x:/y\n  - a/b:/y\n  - data:/d\n  - ./x:rel\n  - ./x:/\n  - ./x:/x:rx\n  - ./x:/x:z\n  - ./one:/same\n  - ./two:/same/\n  - { type: bind, target: /a }\n  - { type: volume, target: /a }\n  - { type: tmpfs, source: a, target: /a }\n  - { type: bind, source: ./a, target: /b, tmpfs: { size: 1m } }\n  - { type: floppy, source: a, target: /c }\n  - { source: a, target: /d }\ntmpfs: [run, \"/run:size=x\", \"/run2:uid=1\"]",
        ),
        expect![[r#"
            line 5, column 9: `/data` has no source: it would be a volume without a name (write `data:/data` and list the name under `volumes:`)
            line 6, column 9: `~` in `~/x` has no meaning here: the daemon runs as root (write the path out, or use a variable: `${HOME}/…`)
            line 7, column 9: `a/b` is neither a path nor the name of a volume (for a folder beside this file write `./a/b`)
            line 8, column 9: volume `data` isn't in this file (add it: `volumes: { data: {} }` at the top level; a folder is written `./data`)
            line 9, column 9: target `rel` must be an absolute path inside the container
            line 10, column 9: nothing can be mounted on `/`, the container's root (name a folder inside)
            line 11, column 9: `rx` is no mount option (`ro` or `rw`)
            line 12, column 9: mount option `z` is not supported yet (`ro` and `rw` are)
            line 14, column 9: `/same` is mounted twice
            line 15, column 9: the mount has no `source`, which `bind` needs
            line 16, column 9: the mount has no `source`, which `volume` needs (volumes without a name are not supported: name it, and list the name under `volumes:`)
            line 17, column 32: a `tmpfs` has no `source`
            line 18, column 48: `tmpfs` options in a mount of type `bind`
            line 19, column 9: `floppy` is no type of a mount (`bind`, `volume` or `tmpfs`)
            line 20, column 9: a mount needs a `type` (`bind`, `volume` or `tmpfs`)
            line 21, column 13: target `run` must be an absolute path inside the container
            line 21, column 18: tmpfs option `size=x` must be a size such as `512m` or `1.5g` (`size=64m`, `mode=1777`, `ro`)
            line 21, column 33: tmpfs option `uid=1` is not supported yet (`size=64m`, `mode=1777`, `ro`)
        "#]],
    );
}

#[test]
fn paths_that_give_the_host_away() {
    check(
        web(
            "volumes:\n  - /:/host\n  - /var/run/docker.sock:/var/run/docker.sock\n  - ../../etc:/e:ro\n  - { type: bind, source: /proc, target: /p, allow_host_path: true }\ndevices: [/dev/sda, /dev/fuse]",
        ),
        expect![[r#"
            error: host path `/` is the whole host
             --> /srv/shop/linkspan.yaml:5:9
              |
            5 |       - /:/host
              |         ^^^^^^^
              = help: if that is meant, write `allow_host_path: true` in the container, or in the mount's long form

            error: host path `/var/run/docker.sock` reaches a container engine, and with it the host
             --> /srv/shop/linkspan.yaml:6:9
              |
            6 |       - /var/run/docker.sock:/var/run/docker.sock
              |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              = help: if that is meant, write `allow_host_path: true` in the container, or in the mount's long form

            error: host path `/etc` gives the host away
             --> /srv/shop/linkspan.yaml:7:9
              |
            7 |       - ../../etc:/e:ro
              |         ^^^^^^^^^^^^^^^
              = help: if that is meant, write `allow_host_path: true` in the container, or in the mount's long form

            error: device `/dev/sda` may give the host away
             --> /srv/shop/linkspan.yaml:9:15
              |
            9 |     devices: [/dev/sda, /dev/fuse]
              |               ^^^^^^^^
              = help: if that is meant, write `allow_host_path: true` in the container
        "#]],
    );
}

#[test]
fn dependencies_that_can_not_be() {
    check(
        "containers:\n  a: { image: x, depends_on: [b] }\n  b: { image: x, depends_on: [c] }\n  c: { image: x, depends_on: [a, d] }\n  d: { image: x, depends_on: [d, webb] }\n  web: { image: x, depends_on: { job: { condition: service_completed_successfully } } }\n  job: { image: x }\n",
        expect![[r#"
            error: containers depend on each other in a circle: `a` → `b` → `c` → `a`
             --> /srv/shop/linkspan.yaml:2:31
              |
            2 |   a: { image: x, depends_on: [b] }
              |                               ^

            error: container `d` depends on itself
             --> /srv/shop/linkspan.yaml:5:31
              |
            5 |   d: { image: x, depends_on: [d, webb] }
              |                               ^

            error: container `d` depends on `webb`, which isn't in this file
             --> /srv/shop/linkspan.yaml:5:34
              |
            5 |   d: { image: x, depends_on: [d, webb] }
              |                                  ^^^^
              = help: did you mean `web`?

            error: `job` never completes: it is restarted whenever it ends
             --> /srv/shop/linkspan.yaml:6:34
              |
            6 |   web: { image: x, depends_on: { job: { condition: service_completed_successfully } } }
              |                                  ^^^
             ::: line 7
              |
            7 |   job: { image: x }
              |   ^^^ its restart is `unless-stopped`
              = help: write `restart: "no"` or `restart: on-failure` in `job`
        "#]],
    );
}

/// `x-` begins keys for other tools, but a container may well be called so.
#[test]
fn a_container_whose_name_begins_with_x() {
    lines(
        "containers:\n  x-ray: { image: }\n  y-ray: { image: y, x-note: [anything, $X] }\n",
        expect![[r#"
            line 2, column 12: `image` has no value (give it one, or remove the line)
        "#]],
    );
}
