"""The commands of `topnode`, a module each; `nodes.cli` has their table. What they do stands in other modules."""
