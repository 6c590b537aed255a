-- check: No two revisions of a policy are in force at the same time
-- severity: warning
-- since: 2
-- A query that has to return no rows. The index idx_policy_version_open sees to revisions without an end only.
SELECT p.slug, a.revision, b.revision AS other_revision
FROM cm.policy_version AS a
JOIN cm.policy_version AS b ON b.policy_id = a.policy_id AND b.revision > a.revision
JOIN cm.policy AS p ON p.id = a.policy_id
WHERE tstzrange(a.effective_from, a.effective_until) && tstzrange(b.effective_from, b.effective_until)
ORDER BY p.slug, a.revision;
