"""The frame's TUF client on a command line and over HTTP, as the public conformance suite drives clients.

Frames read their repository over MQTT (``device_agent.trust.image``); this puts the same verification to the test of
any TUF repository: ``python -m device_agent.tuf_client``.
"""
