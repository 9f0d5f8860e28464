"""Submits specs to a Shardlift coordinator and watches their migrations, with stock grpcio.

    python -m grpc_tools.protoc -I proto --python_out=OUT --grpc_python_out=OUT proto/shardlift/v1/*.proto
    PYTHONPATH=OUT python migrate.py 127.0.0.1:7400 0001_columns.yaml 0002_backfill.yaml

Ends with 0 when all are completed, with 1 otherwise. Running it again is safe: the same content is the same migration.
"""

import pathlib
import sys
import time

import grpc
from shardlift.v1 import common_pb2, migration_pb2, migration_pb2_grpc

# Statuses in which nothing happens any more, and those in which nothing happens until a person acts.
ENDED = {"STATUS_COMPLETED", "STATUS_FAILED", "STATUS_CANCELLED", "STATUS_ROLLED_BACK"}
STOPPED = ENDED | {"STATUS_PAUSED"}

# What passes by itself: another coordinator takes the lead, or the connection broke.
PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}

# How long one call may take, in seconds, and how often it is tried again.
WITHIN = 60
TRIES = 30


def patiently(call):
    """Calls again while the trouble is a passing one. Every call of Shardlift may be repeated."""
    for attempt in range(TRIES):
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in PASSING or attempt + 1 == TRIES:
                raise
            print(f"  {error.details()}; trying again", file=sys.stderr)
            time.sleep(1)


def planned(service, specs):
    """The plan; ends the program when it has errors."""
    answer = patiently(lambda: service.Plan(migration_pb2.PlanRequest(specs=specs), timeout=WITHIN))
    errors = 0
    for finding in answer.plan.findings:
        severity = common_pb2.Severity.Name(finding.severity).removeprefix("SEVERITY_").lower()
        errors += severity == "error"
        print(f"{severity}[{finding.failure.code}]: {finding.failure.message}\n  next: {finding.failure.next}")
    if errors:
        sys.exit(1)
    return answer.plan


def watched(service, identifier):
    """Prints a line whenever a migration has moved, until it rests; gives its status."""
    told = None
    while True:
        try:
            for change in service.Watch(migration_pb2.WatchRequest(id=identifier)):
                migration = change.migration
                status = common_pb2.Status.Name(migration.status)
                line = (status, migration.rows_done)
                if line != told:
                    told = line
                    word = status.removeprefix("STATUS_").lower()
                    print(f"{identifier}: {word}, {migration.rows_done} of about {migration.rows_total} rows", flush=True)
                if migration.HasField("halted"):
                    print(f"  {migration.halted.code}: {migration.halted.message}\n  next: {migration.halted.next}")
                if status in STOPPED:
                    return status
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                raise
        # The leader changed, or the stream ended: look again.
        time.sleep(1)


def main(address, files):
    specs = [common_pb2.SpecFile(name=file.name, text=file.read_text(encoding="utf-8")) for file in files]
    with grpc.insecure_channel(address) as channel:
        service = migration_pb2_grpc.MigrationServiceStub(channel)
        plan = planned(service, specs)
        # Refused if the topology has moved since the plan was made.
        request = migration_pb2.SubmitRequest(specs=specs, start=True, topology_revision=plan.topology_revision)
        patiently(lambda: service.Submit(request, timeout=WITHIN))
        statuses = [watched(service, migration.id) for migration in plan.migrations]
    return 0 if set(statuses) <= {"STATUS_COMPLETED"} else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], [pathlib.Path(name) for name in sys.argv[2:]]))
    except grpc.RpcError as refusal:
        # The stable code and what to do next come as typed details (google.rpc.Status); the sentence is enough here.
        sys.exit(f"refused ({refusal.code().name}): {refusal.details()}")
