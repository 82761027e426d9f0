"""May this happen?

  relay.py         may_relay: the one place that decides who may send to domains that are not ours
  situation.py     Situation: every fact a restriction may look at
  restrictions.py  the restrictions, each declared once with its Postfix name, its sentence and its reply
  chain.py         Chain: a listener's lists in Postfix's order; the first that rejects decides, and is named

A restriction answers Permit, a Reply, or None for "I have nothing to say". A permit ends its own list and nothing else: no
list can open the relay, for may_relay is asked whatever the lists say.
"""
