"""The given/when/then language of all tests of the domains.

`scenario` decides and folds as the kernel does. `facts`, `group_events`, `payment_events`, `inputs`, `statement` and
`decision_log` build each kind of message once. `groups`, `payments` and `orders` are the vocabularies of the services.
"""
