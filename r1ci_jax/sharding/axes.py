"""Array names end in axis letters: `logits_BTV` is [batch, token, vocabulary].

A letter has the same meaning everywhere in the project.

B  rows of a batch            T  tokens of a row, queries   V  vocabulary
D  model width                F  feed-forward width         C  cache or key positions
N  query heads                K  key/value heads            H  head_dim (h = H/2)
G  query heads per KV head    L  layers                     S  sampler slots
P  prompts of a batch         R  rollouts per prompt        A  states of an automaton
E  decode steps of a chunk    I  rows of one prefill call   X  positions of a logits chunk
O  outputs of a matmul        M  blocks of a search         b  entries of a block
U  pages of the cache         W  positions of a page        J  pages of a row
Q  queries of a key/value head: G x T

1 and 2 are axes of that size.
"""
