"""The axis names used in every shape annotation of the package.

`prompt`   one prompt (or prompt pair)        `pos`      token position, 0 is the first token
`d_model`  residual stream                    `d_in`     input of an SAE (= d_model here)
`d_sae`    dictionary size of an SAE          `feature`  an SAE latent
`d_vocab`  vocabulary                         `site`     a hook point, see `emocircuits.sites`
`emotion`  one of the emotions asked for      `story`    one labelled text
`row`      one token of one text in an activation store (no padding)
`node`, `edge`  entries of an attribution graph
"""
