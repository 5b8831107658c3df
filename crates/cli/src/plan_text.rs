//! A plan as text: `+ ~ -`, what, and why.

use linkspan_api::v1::{PlanView, StepView};

use crate::terminal::{Colour, Paint, clean};

/// A line for each step, and a last one that counts them; or `no changes`.
pub(crate) fn render(plan: &PlanView, paint: Paint) -> String {
    if plan.steps.is_empty() {
        return "no changes\n".to_owned();
    }
    let width = |part: fn(&StepView) -> &String| {
        plan.steps
            .iter()
            .map(|step| clean(part(step)).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (kinds, names) = (width(|step| &step.kind), width(|step| &step.name));
    let mut out = String::new();
    for step in &plan.steps {
        let (kind, name, detail) = (clean(&step.kind), clean(&step.name), clean(&step.detail));
        let line = format!("{} {kind:<kinds$}  {name:<names$}  {detail}", step.sign);
        let line = line.trim_end();
        out.push_str(&match step.sign {
            '+' => paint.paint(Colour::Green, line),
            '-' => paint.paint(Colour::Red, line),
            _ => paint.paint(Colour::Yellow, line),
        });
        out.push('\n');
    }
    let count = |sign| plan.steps.iter().filter(|step| step.sign == sign).count();
    out.push_str(&format!(
        "{} to add, {} to change, {} to remove\n",
        count('+'),
        count('~'),
        count('-')
    ));
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn step(sign: char, kind: &str, name: &str, detail: &str) -> StepView {
        StepView {
            sign,
            kind: kind.to_owned(),
            name: name.to_owned(),
            detail: detail.to_owned(),
        }
    }

    fn plan() -> PlanView {
        PlanView {
            steps: vec![
                step('+', "network", "shop-default", ""),
                step('~', "container", "shop-web-1", "image changed: web:1 → web:2"),
                step('-', "route", "old.example.com/", "web:80"),
            ],
        }
    }

    #[test]
    fn steps_line_up_and_are_counted() {
        expect![[r#"
            + network    shop-default
            ~ container  shop-web-1        image changed: web:1 → web:2
            - route      old.example.com/  web:80
            1 to add, 1 to change, 1 to remove
        "#]]
        .assert_eq(&render(&plan(), Paint::PLAIN));
    }

    #[test]
    fn on_a_terminal_a_removal_is_red() {
        let text = render(&plan(), Paint::ALWAYS);
        assert!(
            text.contains("\x1b[31m- route      old.example.com/  web:80\x1b[0m\n"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_plan_says_so() {
        assert_eq!(
            render(&PlanView { steps: Vec::new() }, Paint::PLAIN),
            "no changes\n"
        );
    }
}
