"""Commands that answer messages as they come: `r1ci chat` a person, `r1ci serve` programs."""
