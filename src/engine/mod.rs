//! Answers from (rules, view, question): check, expand, lists, explanations.
