"""The audit log becomes a chain that the database itself keeps: sealed at commit, never changed afterwards."""

from django.db import migrations, models

# ``protocol.audit`` says what a digest covers. Sealing waits for the commit, so that the lock that puts entries in one
# line is the last thing any transaction takes: it can be part of no circle of waiting.
SEAL = """
CREATE FUNCTION fleet_audit_netstring(field text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(octet_length(convert_to(field, 'UTF8')) || ':' || field || ',', 'UTF8')
$$;

CREATE FUNCTION fleet_audit_seal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry fleet_auditentry%ROWTYPE;
    last_number bigint;
    last_digest text;
BEGIN
    PERFORM pg_advisory_xact_lock(7261430215);
    SELECT * INTO entry FROM fleet_auditentry WHERE id = NEW.id;
    IF NOT FOUND OR entry.number IS NOT NULL THEN
        RETURN NULL;
    END IF;
    SELECT number, digest INTO last_number, last_digest
        FROM fleet_auditentry WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1;
    last_number := coalesce(last_number, 0) + 1;
    last_digest := coalesce(last_digest, repeat('0', 64));
    UPDATE fleet_auditentry SET number = last_number, previous = last_digest, digest = encode(sha256(
        fleet_audit_netstring(last_number::text)
        || fleet_audit_netstring((extract(epoch FROM entry.at) * 1000000)::bigint::text)
        || fleet_audit_netstring(entry.actor)
        || fleet_audit_netstring(entry.action)
        || fleet_audit_netstring(entry.subject)
        || fleet_audit_netstring(entry.detail::text)
        || fleet_audit_netstring(last_digest)
    ), 'hex') WHERE id = entry.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION fleet_audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.number IS NULL
       AND (OLD.id, OLD.at, OLD.actor, OLD.action, OLD.subject, OLD.detail)
           IS NOT DISTINCT FROM (NEW.id, NEW.at, NEW.actor, NEW.action, NEW.subject, NEW.detail) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'The audit log is append-only: entry % stays as it is.', OLD.id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE CONSTRAINT TRIGGER audit_seal AFTER INSERT ON fleet_auditentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fleet_audit_seal();
CREATE TRIGGER audit_keep BEFORE UPDATE OR DELETE ON fleet_auditentry
    FOR EACH ROW EXECUTE FUNCTION fleet_audit_keep();
"""

# What was written before the chain begins it, in the order of writing. An INSERT is what seals, so each is put back.
SEAL_OLD = """
DO $$
DECLARE old record;
BEGIN
    CREATE TEMPORARY TABLE audit_before ON COMMIT DROP AS SELECT * FROM fleet_auditentry;
    ALTER TABLE fleet_auditentry DISABLE TRIGGER audit_keep;
    DELETE FROM fleet_auditentry;
    ALTER TABLE fleet_auditentry ENABLE TRIGGER audit_keep;
    SET CONSTRAINTS audit_seal IMMEDIATE;
    FOR old IN SELECT * FROM audit_before ORDER BY id LOOP
        INSERT INTO fleet_auditentry (id, at, actor, action, subject, detail, previous, digest)
            OVERRIDING SYSTEM VALUE VALUES (old.id, old.at, old.actor, old.action, old.subject, old.detail, '', '');
    END LOOP;
    SET CONSTRAINTS audit_seal DEFERRED;
END
$$;
"""

UNSEAL = """
DROP TRIGGER audit_keep ON fleet_auditentry;
DROP TRIGGER audit_seal ON fleet_auditentry;
DROP FUNCTION fleet_audit_keep();
DROP FUNCTION fleet_audit_seal();
DROP FUNCTION fleet_audit_netstring(text);
"""


class Migration(migrations.Migration):
    dependencies = [("fleet", "0003_identity")]

    operations = [
        migrations.AddField(
            model_name="auditentry",
            name="digest",
            field=models.CharField(blank=True, default="", editable=False, max_length=64),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="auditentry",
            name="number",
            field=models.BigIntegerField(blank=True, editable=False, null=True, unique=True),
        ),
        migrations.AddField(
            model_name="auditentry",
            name="previous",
            field=models.CharField(blank=True, default="", editable=False, max_length=64),
            preserve_default=False,
        ),
        migrations.RunSQL(SEAL, UNSEAL),
        migrations.RunSQL(SEAL_OLD, migrations.RunSQL.noop),
    ]
