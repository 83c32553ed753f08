"""The Celery application: settings that matter are explained in docs/guarantees.md."""

from celery import Celery

from genpulse.config import config

PRIORITY_STEPS = {0: 0, 1: 3, 2: 6}  # task level -> message priority; on Redis 0 goes first

app = Celery("genpulse")
app.conf.update(
    broker_url=config.redis_url,
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_acks_on_failure_or_timeout=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_default_queue="control",
    task_create_missing_queues=True,
    task_publish_retry_policy={"max_retries": 2, "interval_max": 0.5},
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    broker_transport_options={
        "visibility_timeout": config.visibility_timeout,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "unacked_restore_limit": 200,
        "unacked_mutex_expire": 30,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": "gp:",
        "queue_order_strategy": "round_robin",
        "priority_steps": [0, 3, 6],
    },
)
app.autodiscover_tasks(related_name="jobs")
