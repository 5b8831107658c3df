//! What `up` and `down` show while they wait: a live line for each container on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use linkspan_api::v1::Event;

use crate::terminal::{self, Colour, Paint, clean, cut};

/// Shows events as they come, on standard error.
pub(crate) struct Progress {
    board: Board,
    paint: Paint,
    live: bool,
    /// Lines of the board on the screen now.
    drawn: usize,
}

impl Progress {
    /// Live lines if standard error is a terminal.
    pub(crate) fn on_stderr() -> Self {
        let stderr = std::io::stderr();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            board: Board::default(),
            paint: Paint::for_stream(&stderr),
            live: stderr.is_terminal() && !dumb,
            drawn: 0,
        }
    }

    /// Takes one event in, and shows it if it is worth showing.
    pub(crate) fn event(&mut self, event: &Event) {
        if !self.board.apply(event) {
            return;
        }
        if self.live {
            self.redraw();
        } else {
            terminal::complain(&plain(event));
        }
    }

    fn redraw(&mut self) {
        let (rows, columns) = terminal::size().unwrap_or((24, 80));
        // The last line holds the cursor.
        let lines = self.board.lines(
            usize::from(rows).saturating_sub(1).max(1),
            usize::from(columns),
            self.paint,
        );
        let text = frame(self.drawn, &lines);
        self.drawn = lines.len();
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

/// The control sequences that put `lines` in place of the `drawn` lines above the cursor.
fn frame(drawn: usize, lines: &[String]) -> String {
    let mut out = String::new();
    if drawn > 0 {
        out.push_str(&format!("\x1b[{drawn}A"));
    }
    for line in lines {
        out.push_str("\r\x1b[2K");
        out.push_str(line);
        out.push('\n');
    }
    // A board that has become shorter leaves nothing of its old self.
    out.push_str("\x1b[J");
    out
}

/// An event as one line, for logs.
fn plain(event: &Event) -> String {
    let mut line = format!(
        "{} {} {}",
        clean(&event.kind),
        clean(&event.name),
        clean(&event.action)
    );
    if !event.detail.is_empty() {
        line.push_str(": ");
        line.push_str(&clean(&event.detail));
    }
    line
}

/// Where each container is.
#[derive(Debug, Default)]
struct Board {
    rows: BTreeMap<(String, String), Row>,
}

#[derive(Debug)]
struct Row {
    action: String,
    detail: String,
}

impl Board {
    /// False for what needs no line: containers have one each; other things only when they fail.
    fn apply(&mut self, event: &Event) -> bool {
        // The outcome of the whole site is said at the end, in its own words.
        if event.kind == "site" {
            return false;
        }
        let key = (event.kind.clone(), event.name.clone());
        if event.kind != "container" && event.action != "failed" && !self.rows.contains_key(&key) {
            return false;
        }
        self.rows.insert(
            key,
            Row {
                action: event.action.clone(),
                detail: event.detail.clone(),
            },
        );
        true
    }

    /// At most `rows` lines of at most `columns` characters; what is settled gives way first.
    fn lines(&self, rows: usize, columns: usize, paint: Paint) -> Vec<String> {
        let label = |(kind, name): &(String, String)| match kind.as_str() {
            "container" => clean(name).into_owned(),
            kind => format!("{} {}", clean(kind), clean(name)),
        };
        let width = self
            .rows
            .keys()
            .map(|key| label(key).chars().count())
            .max()
            .unwrap_or(0);
        let fits = if self.rows.len() <= rows {
            rows
        } else {
            rows.saturating_sub(1)
        };
        let mut shown: Vec<_> = self.rows.iter().collect();
        if fits < rows {
            shown.sort_by_key(|(_, row)| row.is_settled());
        }
        let hidden = shown.split_off(fits.min(shown.len()));
        let mut lines: Vec<String> = shown
            .into_iter()
            .map(|(key, row)| row.line(&label(key), width, columns, paint))
            .collect();
        if !hidden.is_empty() {
            lines.push(cut(&format!("  … and {} more", hidden.len()), columns).into_owned());
        }
        lines
    }
}

/// Nothing more will happen by itself.
fn is_settled(action: &str) -> bool {
    matches!(action, "ready" | "healthy" | "removed" | "stopped")
}

/// How an action is coloured wherever it is shown.
pub(crate) fn tone(action: &str) -> Colour {
    match action {
        "failed" => Colour::Red,
        _ if is_settled(action) => Colour::Green,
        "exited" | "repaired" | "repairing" | "unhealthy" | "unreachable" => Colour::Yellow,
        _ => Colour::Dim,
    }
}

impl Row {
    fn is_settled(&self) -> bool {
        is_settled(&self.action)
    }

    fn line(&self, label: &str, width: usize, columns: usize, paint: Paint) -> String {
        let colour = tone(&self.action);
        let mark = match colour {
            Colour::Red => "✗",
            Colour::Green => "✓",
            Colour::Yellow | Colour::Dim => "•",
        };
        // Cut first, colour after: control sequences take no room.
        let rest = format!(
            " {label:<width$}  {:<9} {}",
            clean(&self.action),
            clean(&self.detail)
        );
        let rest = cut(rest.trim_end(), columns.saturating_sub(2)).into_owned();
        format!(" {}{rest}", paint.paint(colour, mark))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn event(kind: &str, name: &str, action: &str, detail: &str) -> Event {
        Event {
            time_ms: 0,
            generation: 1,
            project: Some("shop".to_owned()),
            kind: kind.to_owned(),
            name: name.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        }
    }

    fn board(events: &[Event]) -> Board {
        let mut board = Board::default();
        for event in events {
            board.apply(event);
        }
        board
    }

    #[test]
    fn each_container_keeps_one_line_that_changes() {
        let board = board(&[
            event("network", "shop-default", "creating", ""),
            event("container", "shop-web-1", "creating", ""),
            event("container", "shop-db-1", "creating", ""),
            event("container", "shop-web-1", "starting", ""),
            event("container", "shop-db-1", "ready", ""),
            event(
                "container",
                "shop-cache-1",
                "failed",
                "exited with status 3\x1b[2J",
            ),
            event("site", "shop", "converged", ""),
        ]);
        expect![[r#"
            $
             ✗ shop-cache-1  failed    exited with status 3\u{1b}[2J
             ✓ shop-db-1     ready
             • shop-web-1    starting"#]]
        .assert_eq(&format!("$\n{}", board.lines(20, 80, Paint::PLAIN).join("\n")));
    }

    #[test]
    fn a_line_never_wraps() {
        let board = board(&[event(
            "container",
            "shop-web-1",
            "failed",
            "a very long story about a port",
        )]);
        for columns in 0..60 {
            for line in board.lines(5, columns, Paint::PLAIN) {
                assert!(line.chars().count() <= columns.max(2), "{columns}: {line}");
            }
        }
        assert_eq!(
            board.lines(5, 30, Paint::PLAIN),
            [" ✗ shop-web-1  failed    a ve…"]
        );
        assert!(board.lines(5, 30, Paint::ALWAYS)[0].starts_with(" \x1b[31m✗\x1b[0m shop"));
    }

    #[test]
    fn more_containers_than_rows_show_those_that_are_not_ready() {
        let mut events: Vec<Event> = (0..9)
            .map(|n| event("container", &format!("web-{n}"), "ready", ""))
            .collect();
        events.push(event("container", "web-7", "starting", ""));
        expect![[r#"
            $
             • web-7  starting
             ✓ web-0  ready
              … and 7 more"#]]
        .assert_eq(&format!(
            "$\n{}",
            board(&events).lines(3, 80, Paint::PLAIN).join("\n")
        ));
    }

    #[test]
    fn other_things_get_a_line_once_they_fail_and_it_goes_on_from_there() {
        let board = board(&[
            event("firewall", "linkspan", "failed", "no nft"),
            event("firewall", "linkspan", "repaired", ""),
        ]);
        assert_eq!(
            board.lines(9, 80, Paint::PLAIN),
            [" • firewall linkspan  repaired"]
        );
    }

    #[test]
    fn a_redraw_goes_up_over_the_old_lines_and_clears_what_is_left() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(frame(0, &lines), "\r\x1b[2Ka\n\r\x1b[2Kb\n\x1b[J");
        assert_eq!(frame(3, &lines), "\x1b[3A\r\x1b[2Ka\n\r\x1b[2Kb\n\x1b[J");
    }

    #[test]
    fn without_a_terminal_an_event_is_a_line() {
        assert_eq!(
            plain(&event("container", "shop-web-1", "ready", "")),
            "container shop-web-1 ready"
        );
        assert_eq!(
            plain(&event("proxy", "proxy", "failed", "gone")),
            "proxy proxy failed: gone"
        );
    }
}
