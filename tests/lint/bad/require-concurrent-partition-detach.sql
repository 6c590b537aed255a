-- raises: require-concurrent-partition-detach
ALTER TABLE cm.event DETACH PARTITION cm.event_2024;
