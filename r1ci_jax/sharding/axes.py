"""Axis letters used in array names: `logits_BTV` is [batch, token, vocabulary].

They mean the same everywhere in the project.

B  rows of a batch            T  tokens of a row           V  vocabulary
D  model width                F  feed-forward width        C  length of a KV-cache row
N  query heads                K  key/value heads           H  width of one head
G  query heads per KV head    L  layers                    S  sampler slots
P  prompts of a batch         R  rollouts of one prompt    A  states of an automaton
"""
