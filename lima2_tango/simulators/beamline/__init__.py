"""A beamline that is not there: motor, shutter, trigger source, beam monitor. Pure: no Tango, and any clock."""
