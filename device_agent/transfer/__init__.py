"""When, how much and from where a frame downloads: quiet hours, the daily budget, HTTP beside MQTT."""
