"""Probing the nodes below: are they there, since when not, and is it for this node to answer in their place?

    window     what the probes of the last minutes said of one child
    incidents  failures in a row, and good ones in a row
    silences   endpoints at which nobody answers
    deciding   the 51 % rule over all children: who is down, who is taken over, who gets its prefixes back
    children   which children there are, and at which endpoints: out of the store
    holdings   the endpoints of each holder, counted by the prefixes that lead there; numbering, which it rests on
    probe      one look at one endpoint
    vantage    what probers elsewhere have seen
    acting     takeovers and hand-backs, as signed requests to this node's own registry
    prober     all of it together
    telling    the silent endpoints on their way to a resolver
    seen       what is told of it (`/nodes`, `topnode nodes`)

window, incidents, silences and deciding are pure: they are given times and outcomes, and neither wait nor ask.
"""
