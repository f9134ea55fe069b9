"""Django's PostgreSQL, where a kept connection is looked at before it is used again, not asked:
`CONN_HEALTH_CHECKS` costs each request a round trip otherwise."""
